// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"time"

	"github.com/spf13/cobra"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/cmd/egret/internal/node"
	"github.com/egret-proxy/egret/config"
)

// execStart is an egret for one child's life, made from egret.yaml or from flags alone:
// then with an embedded SPIFFE issuer and a CA that is never written down.
type execStart struct {
	file     string
	policies []string
	as       string
	audit    string
	noAudit  bool // nobody wants the records
	verbose  bool
	stderr   io.Writer
}

// defaultFile is egret.yaml where no flag says otherwise.
const defaultFile = "egret.yaml"

// newExecWithStart is `egret exec` with what it starts where it attaches to nothing.
func newExecWithStart() *cobra.Command {
	var s execStart
	cmd := newExecCommand(s.start)
	f := cmd.Flags()
	f.StringVarP(&s.file, "config", "c", "", "settings for the egret that is started (default: egret.yaml, where it is there)")
	f.StringArrayVar(&s.policies, "policy", nil, "policy file or folder for the egret that is started, instead of -c (may be repeated)")
	f.StringVar(&s.as, "as", "", "SPIFFE ID of the program, with --policy")
	f.StringVar(&s.audit, "audit", "", "file for the records, - for standard error (default: as the settings say, none with --policy)")
	f.BoolVarP(&s.verbose, "verbose", "v", false, "show the log of the egret that is started")
	for _, other := range []string{"config", "policy", "as", "audit"} {
		cmd.MarkFlagsMutuallyExclusive("proxy", other)
	}
	cmd.MarkFlagsMutuallyExclusive("config", "policy")
	cmd.MarkFlagsMutuallyExclusive("config", "as")
	cmd.PreRun = func(cmd *cobra.Command, _ []string) { s.stderr = cmd.ErrOrStderr() }
	return cmd
}

// settings are those of the egret to start.
func (s *execStart) settings() (*config.Node, error) {
	cfg, err := s.chosen()
	if err != nil {
		return nil, err
	}
	if s.audit != "" {
		cfg.Audit.File = s.audit
	}
	if cfg.Audit.File == "" {
		cfg.Audit.File = "-"
	}
	cfg.Limits.Drain = min(cfg.Limits.Drain, execDrain)
	return cfg, nil
}

// execDrain is the grace for what the child has left behind.
const execDrain = 2 * time.Second

func (s *execStart) chosen() (*config.Node, error) {
	switch {
	case s.as != "" && len(s.policies) > 0:
		return s.fromFlags()
	case s.as != "" || len(s.policies) > 0:
		return nil, usagef("--policy and --as go together: what is granted, and to whom")
	case s.file != "":
		return s.fromFile(s.file)
	}
	if _, err := os.Stat(defaultFile); errors.Is(err, fs.ErrNotExist) {
		return nil, usagef("there is no %s here: name the settings with -c, or --policy PATH and --as SPIFFE-ID; or attach to a running egret with --proxy and --ca", defaultFile)
	}
	return s.fromFile(defaultFile)
}

func (s *execStart) fromFlags() (*config.Node, error) {
	id, err := spiffeid.FromString(s.as)
	if err != nil {
		return nil, usagef("--as %q: must be a SPIFFE ID: %w", s.as, err)
	}
	cfg := policyOnly(s.policies)
	cfg.Listeners = []config.Listener{{
		Name: "exec", Address: execAddress, Kind: "forward",
		Identify: config.Identify{Sidecar: &config.Sidecar{SameUser: runtime.GOOS == "linux"}},
	}}
	cfg.Spiffe = config.Spiffe{TrustDomains: []string{id.TrustDomain().Name()}, Embedded: &config.Embedded{SpiffeID: s.as}}
	s.noAudit = s.audit == ""
	return cfg, nil
}

// execAddress lets the system choose the port.
const execAddress = "127.0.0.1:0"

// fromFile takes of the settings what one child needs. An egret that runs from the same
// file is not in the way: addresses and sockets are left out.
func (s *execStart) fromFile(file string) (*config.Node, error) {
	cfg, faults := config.LoadNode(file, config.Env{})
	if len(faults) > 0 {
		return nil, faults
	}
	for _, l := range cfg.Listeners {
		if l.Kind == "forward" && l.TLS == nil && l.Identify.Sidecar != nil {
			l.Address = execAddress
			cfg.Listeners = []config.Listener{l}
			cfg.Metrics, cfg.Admin = config.Metrics{}, config.Admin{Revocations: cfg.Admin.Revocations}
			if cfg.Certs.Issuer.Ephemeral != nil { // the bundle is that of the egret that runs
				cfg.Certs.Issuer.Ephemeral = &config.Ephemeral{}
			}
			return cfg, nil
		}
	}
	return nil, fmt.Errorf("%s: no listener is for a child: one must be of kind forward, without tls, and identify by sidecar", file)
}

// execPatience is how long the start may take.
const execPatience = 30 * time.Second

// start implements startProxy.
func (s *execStart) start(ctx context.Context) (string, []byte, func(), error) {
	cfg, err := s.settings()
	if err != nil {
		return "", nil, nil, err
	}
	if err := forbidAttach(); err != nil {
		return "", nil, nil, err
	}
	log := config.Log{Level: "error"} // the child's stderr is the child's
	if s.verbose {
		log = cfg.Log
	}
	records := s.stderr // stdout is the child's
	if s.noAudit {
		records = io.Discard
	}
	n, err := node.New(node.Options{Config: cfg, Version: buildVersion(), Logger: newLogger(s.stderr, log), Stdout: records, Guest: true})
	if err != nil {
		return "", nil, nil, err
	}
	running := n.Start(ctx)
	if err := s.await(ctx, running); err != nil {
		return "", nil, nil, errors.Join(err, running.Stop())
	}
	stop := func() { _ = running.Stop() } // what went wrong is in its log
	return "http://" + n.Address(cfg.Listeners[0].Name).String(), n.CABundle(), stop, nil
}

// await waits until egret is ready and says so where it takes long.
func (s *execStart) await(ctx context.Context, running *node.Running) error {
	wait, cancel := context.WithTimeout(ctx, execPatience)
	defer cancel()
	defer slow(s.stderr, "waiting up to %s for the SPIFFE Workload API", execPatience)()
	_, err := running.Ready(wait)
	return err
}
