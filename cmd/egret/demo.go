// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/egret-proxy/egret/cmd/egret/internal/demo"
	"github.com/egret-proxy/egret/examples/local/dashboard/job"
)

// demoTime bounds the story; it takes about a second.
const demoTime = 30 * time.Second

func newDemoCommand() *cobra.Command {
	var keep, verbose bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See the whole story on this machine, with nothing to configure",
		Long: `Run the whole story on this machine's loopback: a nightly job that holds no token
reads test results from Qase and posts them to Slack through egret; then everything
that must not work. The SaaS are twins that check what they are sent as the real ones
do; the SPIFFE Workload API, the CA, the policy and egret are real.

Nothing outside a temporary folder is touched. Exit code: 0 only if every step was as
told.`,
		Example: "  egret demo\n  egret demo --keep        # leave it running and call it with curl",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			d, err := demo.Start(cmd.Context(), demo.Options{
				Stdout: out, Color: colour(out), Width: width(out), Verbose: verbose, Version: buildVersion(), Job: jobCommand(),
			})
			if err != nil {
				return err
			}
			defer d.Close()
			ctx, cancel := context.WithTimeout(cmd.Context(), demoTime)
			defer cancel()
			if err := d.Story(ctx); err != nil {
				return err
			}
			if keep {
				return d.Keep(cmd.Context())
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "leave it running afterwards, until Ctrl-C")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "show egret's own log")
	cmd.AddCommand(newJobCommand())
	return cmd
}

// jobCommand is the nightly job's command line: the program beside egret where it has
// been built (make demo does), else the same code out of this binary. Either way it is a
// process of its own.
func jobCommand() []string {
	self, err := os.Executable()
	if err != nil {
		return []string{"egret-dashboard"}
	}
	beside := filepath.Join(filepath.Dir(self), "egret-dashboard")
	if info, err := os.Stat(beside); err == nil && info.Mode()&0o111 != 0 {
		return []string{beside}
	}
	return []string{self, "demo", "job"}
}

func newJobCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "job",
		Short:  "The nightly job of the demo: examples/local/dashboard",
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return job.Report(cmd.Context())
		},
	}
}
