// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/egret-proxy/egret/certs"
	"github.com/egret-proxy/egret/internal/launch"
)

// startProxy starts a proxy for the life of a child and returns where it listens and
// the roots that the child must trust, as PEM. stop is called once, after the child.
// The context ends with SIGINT: it bounds the start, and what is started outlives it, since
// once there is a child SIGINT is the child's.
type startProxy func(ctx context.Context) (proxyURL string, caPEM []byte, stop func(), err error)

// exitCode is how a verb ends the process with a code and no further word: main prints
// nothing for an error with this method.
type exitCode int

// Error implements error.
func (e exitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// ExitCode is the process' exit code.
func (e exitCode) ExitCode() int { return int(e) }

type execOptions struct {
	proxy, ca string
	noProxy   []string
	quiet     bool
	node      execNode
	stderr    io.Writer
}

// newExecCommand makes `egret exec`. start is what runs without --proxy; nil when there
// is no such thing, and then --proxy must be given.
func newExecCommand(start startProxy) *cobra.Command {
	var opt execOptions
	cmd := &cobra.Command{
		Use:   "exec [flags] -- COMMAND [ARG...]",
		Short: "Run a program whose HTTPS goes through egret",
		Long: `Run a program with the proxy and trust variables that its runtime understands.

It starts an egret for the program's life: from egret.yaml (-c), of which it takes the
first plain forward listener that identifies by sidecar, on a port of its own, and
neither metrics nor admin socket; or from no more than --policy and --as. With --proxy
and --ca it attaches to an egret that runs already.

Most programs can use an http:// proxy only, and none can show an X.509-SVID to it. For
a node whose TLS listener identifies by x509SVID, --svid puts a port on loopback between
them, for this program's life and this user's processes: each connection becomes one over
TLS 1.2 or later to the node, verified by --listener-ca, with the SVID that the Workload
API gives to egret exec. --socket PATH says the same, and where that API is. The port
reads nothing and decides nothing. Where there is no SVID any more it answers 503 egret
identity/source_unavailable, and 502 egret shim/node_unreachable where the node is not
reached or not verified.

The trust files (bundle.pem, ca.pem and others) lie in a private folder that is removed
at the end. What the program trusted before, it still trusts. The environment leads a
program to egret; it does not hold it there: a program that ignores proxy variables goes
its own way.

Exit code: that of the program, 128+n if signal n ended it, 127 if it was not found,
126 if it could not be run.`,
		Example: `  egret exec -c egret.yaml -- curl https://slack.com/api/auth.test
  egret exec --policy policy/ --as spiffe://acme.example/ns/qa/sa/dashboard -- ./report
  egret exec --proxy http://127.0.0.1:8630 --ca ca.pem -- python3 report.py
  egret exec --proxy https://egret.acme.example:8631 --svid --ca ca.pem -- python3 report.py
  egret exec --proxy https://egret.acme.example:8631 --socket /run/spire/agent.sock --ca ca.pem -- ./report
  egret exec --no-proxy git.acme.example -- make release`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("name the program to run: egret exec -- COMMAND")
			}
			return nil
		},
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			opt.stderr, opt.node.stderr = cmd.ErrOrStderr(), cmd.ErrOrStderr()
			return runExec(cmd, opt, start, args)
		},
	}
	cmd.Flags().StringVar(&opt.proxy, "proxy", "", "URL of the egret listener to attach to, such as http://127.0.0.1:8630")
	cmd.Flags().StringVar(&opt.ca, "ca", "", "PEM file with the roots of that egret (ca.pem)")
	opt.node.flags(cmd)
	cmd.Flags().StringArrayVar(&opt.noProxy, "no-proxy", nil, "host to reach directly, with all below it (may be repeated)")
	cmd.Flags().BoolVarP(&opt.quiet, "quiet", "q", false, "no notes on stderr")
	cmd.Flags().SetInterspersed(false) // what follows COMMAND is COMMAND's
	return cmd
}

func runExec(cmd *cobra.Command, opt execOptions, start startProxy, args []string) error {
	start, err := opt.source(start)
	if err != nil {
		return err
	}
	proxy, caPEM, stop, err := start(cmd.Context())
	if err != nil {
		return err
	}
	defer stop()
	env, folder, err := opt.prepare(proxy, caPEM)
	if err != nil {
		return err
	}
	defer func() { _ = folder.Remove() }()
	child, dropped := env.Environ()
	if !opt.quiet {
		opt.tell(dropped, launch.Notes(cmd.Context(), args[0], env))
	}
	code, err := launch.Run(launch.Command{Args: args, Env: child, Stdin: cmd.InOrStdin(), Stdout: cmd.OutOrStdout(), Stderr: cmd.ErrOrStderr()})
	if err != nil {
		opt.notef("%v", err)
	}
	if code != 0 {
		return exitCode(code)
	}
	return err
}

// source returns what gives the proxy: the flags, or the given start.
func (o execOptions) source(start startProxy) (startProxy, error) {
	if err := o.node.check(o.proxy); err != nil {
		return nil, err
	}
	switch {
	case o.proxy != "" && o.ca != "":
		return o.attach, nil
	case o.proxy != "" || o.ca != "":
		return nil, usagef("--proxy and --ca go together (the CA of a running egret: egret ca bundle, or its ca.pem)")
	case start == nil:
		return nil, usagef("name the egret to attach to with --proxy and --ca")
	}
	return start, nil
}

func (o execOptions) attach(ctx context.Context) (string, []byte, func(), error) {
	list, err := certs.ReadCertificates(o.ca)
	if err != nil {
		return "", nil, nil, fmt.Errorf("--ca: %w", err)
	}
	proxy, stop := o.proxy, func() {}
	if o.node.svid {
		if proxy, stop, err = o.node.start(ctx, o.proxy); err != nil {
			return "", nil, nil, err
		}
	}
	return proxy, certs.EncodeCertificates(list...), stop, nil
}

// prepare writes the trust folder and says what the child's environment is made from.
func (o execOptions) prepare(proxy string, caPEM []byte) (launch.Env, launch.Folder, error) {
	env := launch.Env{Parent: os.Environ()}
	var err error
	if env.Proxy, err = launch.ParseProxy(proxy); err != nil {
		return env, "", err
	}
	for _, s := range o.noProxy {
		host, err := launch.ParseNoProxy(s)
		if err != nil {
			return env, "", fmt.Errorf("--no-proxy: %w", err)
		}
		env.NoProxy = append(env.NoProxy, host)
	}
	roots, err := certs.DecodeCertificates(caPEM)
	if err != nil {
		return env, "", fmt.Errorf("the proxy's CA: %w", err)
	}
	system, unusable, err := launch.ParentTrust(env.Parent)
	if err != nil {
		return env, "", err
	}
	if len(unusable) > 0 && !o.quiet {
		o.notef("no certificate could be read from the files of %s", strings.Join(unusable, ", "))
	}
	env.Folder, err = launch.NewFolder(launch.Trust{System: system, Roots: roots})
	return env, env.Folder, err
}

// tell prints what the user might wonder about, on stderr.
func (o execOptions) tell(dropped, notes []string) {
	for _, name := range dropped {
		o.notef("%s was taken out of the environment: %s", name, launch.WhyDropped(name))
	}
	if os.Getenv("NO_PROXY") != "" || os.Getenv("no_proxy") != "" {
		o.notef("NO_PROXY was replaced (keep an entry with --no-proxy HOST)")
	}
	for _, n := range notes {
		o.notef("%s", n)
	}
}

func (o execOptions) notef(format string, args ...any) {
	_, _ = fmt.Fprintf(o.stderr, "egret exec: "+format+"\n", args...)
}
