// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"time"

	"github.com/spf13/cobra"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/cmd/egret/internal/node"
	"github.com/egret-proxy/egret/config"
)

// execStart is an egret for one child's life: an embedded SPIFFE issuer, a CA that is
// never written down, and the policy that the flags name.
type execStart struct {
	policies []string
	as       string
	audit    string
	verbose  bool
	stderr   io.Writer
}

// newExecWithStart is `egret exec` with what it starts where it attaches to nothing.
func newExecWithStart() *cobra.Command {
	var s execStart
	cmd := newExecCommand(s.start)
	cmd.Flags().StringArrayVar(&s.policies, "policy", nil, "policy file or folder for the egret that is started (may be repeated)")
	cmd.Flags().StringVar(&s.as, "as", "", "SPIFFE ID of the program, for the egret that is started")
	cmd.Flags().StringVar(&s.audit, "audit", os.DevNull, "file for the records of the egret that is started (- for standard output)")
	cmd.Flags().BoolVar(&s.verbose, "verbose", false, "show the log of the egret that is started")
	cmd.PreRun = func(cmd *cobra.Command, _ []string) { s.stderr = cmd.ErrOrStderr() }
	return cmd
}

// settings are what an egret.yaml would say.
func (s *execStart) settings() (*config.Node, error) {
	if s.as == "" || len(s.policies) == 0 {
		return nil, errors.New("attach to a running egret with --proxy and --ca, or start one with --policy PATH and --as SPIFFE-ID")
	}
	id, err := spiffeid.FromString(s.as)
	if err != nil {
		return nil, fmt.Errorf("--as %q: must be a SPIFFE ID: %w", s.as, err)
	}
	cfg := policyOnly(s.policies)
	cfg.Listeners = []config.Listener{{
		Name: "exec", Address: "127.0.0.1:0", Kind: "forward",
		Identify: config.Identify{Sidecar: &config.Sidecar{SameUser: runtime.GOOS == "linux"}},
	}}
	cfg.Spiffe = config.Spiffe{TrustDomains: []string{id.TrustDomain().Name()}, Embedded: &config.Embedded{SpiffeID: s.as}}
	cfg.Audit.File = s.audit
	return cfg, nil
}

// start implements startProxy.
func (s *execStart) start(ctx context.Context) (string, []byte, func(), error) {
	cfg, err := s.settings()
	if err != nil {
		return "", nil, nil, err
	}
	if err := harden(); err != nil {
		return "", nil, nil, err
	}
	log := slog.New(slog.DiscardHandler)
	if s.verbose {
		log = newLogger(s.stderr, cfg.Log)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, nil, err
	}
	n, err := node.New(node.Options{Config: cfg, Version: buildVersion(), Logger: log, Stdout: s.stderr, Listeners: map[string]net.Listener{"exec": l}})
	if err != nil {
		return "", nil, nil, errors.Join(err, l.Close())
	}
	stop := runBeside(ctx, n)
	wait, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err := n.Identity(wait); err != nil {
		stop()
		return "", nil, nil, err
	}
	return "http://" + l.Addr().String(), n.CABundle(), stop, nil
}

// runBeside runs a node until stop is called; stop waits for its end.
func runBeside(ctx context.Context, n *node.Node) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = n.Run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}
