// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"runtime"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/egret-proxy/egret/cmd/egret/internal/node"
	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/internal/memory"
)

func newRunCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "run -c egret.yaml",
		Short: "Run the proxy",
		Long: `Run the proxy until SIGTERM or SIGINT, then let what is in flight finish.

Policy, intermediates and the listeners' certificates are reloaded when their files
change and on SIGHUP; a faulty policy changes nothing, and the log, /readyz and metrics
say so. SIGHUP also reopens the audit file. Settings of egret.yaml itself need a
restart. Under systemd it notifies (Type=notify or notify-reload), feeds the watchdog and takes
sockets (address: systemd:NAME).

A second SIGINT or SIGTERM, a second or more later, ends it at once.`,
		Example: "  egret run -c /etc/egret/egret.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runNode(cmd.Context(), file, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "egret.yaml", "settings of the node")
	return cmd
}

func runNode(ctx context.Context, file string, stdout, stderr io.Writer) error {
	if err := harden(); err != nil {
		return err
	}
	cfg, faults := config.LoadNode(file, config.Env{})
	if len(faults) > 0 {
		return faults
	}
	log := newLogger(stderr, cfg.Log)
	n, err := node.New(node.Options{
		Config: cfg, File: file, Version: buildVersion(), Logger: log, Stdout: stdout, Service: true,
	})
	if err != nil {
		return err
	}
	settings := memory.Settle(os.DirFS("/"), os.Getenv) // not before what the start needs has been read
	defer settings.Release()
	log.Info("resources", "processors", runtime.GOMAXPROCS(0), "memory", settings)
	return n.Run(ctx)
}

// newLogger makes egret's own log: text for a person at a terminal, JSON for machines.
func newLogger(w io.Writer, c config.Log) *slog.Logger {
	level := slog.LevelInfo
	_ = level.UnmarshalText([]byte(c.Level)) // checked by config; empty is info
	opt := &slog.HandlerOptions{Level: level, ReplaceAttr: readable}
	if c.Format == "json" || c.Format == "" && !isTerminal(w) {
		return slog.New(slog.NewJSONHandler(w, opt))
	}
	return slog.New(slog.NewTextHandler(w, opt))
}

// readable writes durations as text: JSON would have them as numbers without a unit.
func readable(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// colour tells whether to paint: only on a terminal that can, and for who wants it
// (no-color.org).
func colour(w io.Writer) bool {
	return isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// width is that of the terminal; 0 where there is none.
func width(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if n, _, err := term.GetSize(int(f.Fd())); err == nil {
			return n
		}
	}
	return 0
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
