// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"github.com/egret-proxy/egret/cmd/egret/internal/node"
	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/internal/escape"
	"github.com/egret-proxy/egret/internal/ops"
)

func newReloadCommand() *cobra.Command {
	var o adminOptions
	var out output
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Make a running egret load its policy now",
		Long: `Make a running egret load its policy now, over its admin socket, and tell what is in
force afterwards and how many streams the new policy has cut. It does so by itself
when files change; this is for scripts that must know the outcome.

Exit code: 0 when the new policy is in force, 1 when it has faults and the one before stays.`,
		Example: "  egret reload -c /etc/egret/egret.yaml\n  egret reload --socket /run/egret/admin.sock",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			socket, err := o.find()
			if err != nil {
				return err
			}
			defer slow(cmd.ErrOrStderr(), "waiting for the egret at %s", socket)()
			var r node.Reloaded
			err = ops.Do(cmd.Context(), ops.Dial(socket), ops.Call{Method: http.MethodPost, Path: "/v1/reload", Out: &r})
			if err != nil {
				return err
			}
			return printReloaded(cmd, r, out)
		},
	}
	o.flags(cmd)
	out.flag(cmd)
	return cmd
}

// adminOptions say where the running egret's admin socket is.
type adminOptions struct{ file, socket string }

func (o *adminOptions) flags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.file, "config", "c", "", "settings of the node (default: egret.yaml, where it is there)")
	cmd.Flags().StringVar(&o.socket, "socket", "", "admin socket of the running egret (default: that of the settings, or "+defaultSocket+")")
}

// defaultSocket is where packages put it.
const defaultSocket = "/run/egret/admin.sock"

// find returns the socket that the flags, the settings or habit name.
func (o *adminOptions) find() (string, error) {
	file := orDefaultFile(o.file)
	switch {
	case o.socket != "":
		return o.socket, nil
	case file == "":
		return defaultSocket, nil
	}
	n, faults := config.LoadNode(file, config.Env{})
	if len(faults) > 0 {
		return "", faults
	}
	if n.Admin.Socket == "" {
		return "", fmt.Errorf("%s configures no admin socket: set admin.socket and restart egret", file)
	}
	return n.Admin.Socket, nil
}

// orDefaultFile is the file that was named, else egret.yaml where it is there, else none.
func orDefaultFile(file string) string {
	if file == "" {
		if info, err := os.Stat(defaultFile); err == nil && info.Mode().IsRegular() {
			return defaultFile
		}
	}
	return file
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
