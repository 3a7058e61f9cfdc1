// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/internal/escape"
)

// Exit codes besides those of a program that exec ran.
const (
	exitOK     = 0
	exitFailed = 1 // it did not work, or faults were found
	exitUsage  = 2 // the command line is not understood
	exitDenied = 3 // why: the request is denied

	exitInterrupted = 130 // Ctrl-C, as shells give it
)

// usageError: the command line is not understood.
type usageError struct{ error }

// Unwrap returns what is wrong with it.
func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// run is the whole program: arguments in, exit code out.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	understood := false
	onRun(root, func() { understood = true })
	cmd, err := root.ExecuteContextC(ctx)
	var coded interface{ ExitCode() int }
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &coded):
		return coded.ExitCode()
	case !understood || errors.As(err, &usage):
		tell(stderr, err)
		_, _ = fmt.Fprintf(stderr, "see: %s --help\n", cmd.CommandPath())
		return exitUsage
	case ctx.Err() != nil:
		_, _ = fmt.Fprintln(stderr, "egret: interrupted")
		return exitInterrupted
	}
	tell(stderr, err)
	return exitFailed
}

// onRun has begun called where a command has taken its flags and arguments and runs.
func onRun(cmd *cobra.Command, begun func()) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			begun()
			return run(cmd, args)
		}
	}
	for _, c := range cmd.Commands() {
		onRun(c, begun)
	}
}

// group makes a command that only holds others.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.SuggestionsMinimumDistance = 2
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			return usagef("%q is not a command of %s; did you mean %s?", args[0], cmd.CommandPath(), strings.Join(near, " or "))
		}
		return usagef("%q is not a command of %s", args[0], cmd.CommandPath())
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	return cmd
}

// tell prints an error for a person. It may quote hostile text.
func tell(w io.Writer, err error) {
	var faults config.Faults
	if errors.As(err, &faults) {
		for _, f := range faults {
			_, _ = fmt.Fprintln(w, escape.Terminal(f.Error()))
		}
		_, _ = fmt.Fprintf(w, "egret: %s\n", count(len(faults), "fault"))
		return
	}
	for _, line := range strings.Split(err.Error(), "\n") {
		_, _ = fmt.Fprintln(w, "egret: "+escape.Terminal(line))
	}
}

// count writes "1 fault", "2 faults".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if base, ok := strings.CutSuffix(noun, "y"); ok {
		return fmt.Sprintf("%d %sies", n, base)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func newRootCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "egret",
		Short: "Give workloads access to SaaS APIs without ever giving them a secret",
		Long: `egret is an egress proxy that injects credentials.

A workload calls https://slack.com with no token at all. egret intercepts the
connection to that allow-listed host, finds out which workload is calling from its
SPIFFE identity, asks policy about the request, puts in a short-lived credential,
sends it over verified TLS, and writes down what it did.

Exit codes: 0 done, 1 it failed or faults were found, 2 the command line is wrong,
3 (why) the request is denied, 130 interrupted; exec exits as its program does.`,
		Example: `  egret demo                                  the whole story on this machine
  egret check policy/                         every fault at once
  egret run -c egret.yaml                     the proxy
  egret why --as spiffe://acme.example/ns/qa/sa/dashboard POST https://slack.com/api/chat.postMessage`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       versionLine(),
	})
	cmd.SetVersionTemplate("{{.Version}}\n")
	cmd.AddCommand(
		newDemoCommand(), newRunCommand(), newCheckCommand(), newExecWithStart(), newWhyCommand(), newPolicyCommand(),
		newReloadCommand(), newCredentialsCommand(), newRevokeCommand(), newRedirectCommand(), newSteerCommand(), newDoctorCommand(), newCACommand(), newVersionCommand(), newDocsCommand(),
	)
	cmd.CompletionOptions.HiddenDefaultCmd = false
	return cmd
}
