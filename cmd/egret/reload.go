// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/egret-proxy/egret/cmd/egret/internal/node"
	"github.com/egret-proxy/egret/internal/escape"
	"github.com/egret-proxy/egret/internal/ops"
)

func newReloadCommand() *cobra.Command {
	var socket string
	var out output
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Make a running egret load its policy now",
		Long: `Make a running egret load its policy now, over its admin socket, and tell what is in
force afterwards and how many streams the new policy has cut. It does so by itself
when files change; this is for scripts that must know the outcome.

Exit code: 0 when the new policy is in force, 1 when it has faults and the one before stays.`,
		Example: "  egret reload --socket /run/egret/admin.sock",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var r node.Reloaded
			err := ops.Do(cmd.Context(), ops.Dial(socket), ops.Call{Method: http.MethodPost, Path: "/v1/reload", Out: &r})
			if err != nil {
				return err
			}
			return printReloaded(cmd, r, out)
		},
	}
	cmd.Flags().StringVar(&socket, "socket", "/run/egret/admin.sock", "admin socket of the running egret")
	out.flag(cmd)
	return cmd
}

func printReloaded(cmd *cobra.Command, r node.Reloaded, out output) error {
	if out.json() {
		if err := out.write(cmd.OutOrStdout(), r); err != nil {
			return err
		}
	}
	if len(r.Faults) > 0 {
		for _, f := range r.Faults {
			_, _ = fmt.Fprintln(cmd.ErrOrStderr(), escape.Terminal(f))
		}
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "egret: %s; policy %s stays in force\n", count(len(r.Faults), "fault"), r.Policy)
		return exitCode(exitFailed)
	}
	if out.json() {
		return nil
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "policy %s is in force after %s; %s cut\n", r.Policy, r.Took, count(r.Cut, "stream"))
	return err
}
