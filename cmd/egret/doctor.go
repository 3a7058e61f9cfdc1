// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/egret-proxy/egret/cmd/egret/internal/doctor"
	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/internal/escape"
)

func newDoctorCommand() *cobra.Command {
	var file string
	var out output
	cmd := &cobra.Command{
		Use:   "doctor [-c egret.yaml]",
		Short: "Look at everything around an egret and say what to change",
		Long: `Look at everything around an egret and say what to change: settings and policy, the
Workload API and egret's own SVID, the bundles of trust domains, the agent's leave to
ask for others, the admin socket and metrics, the CA and its keys, what the kernel can
say about callers, and every listener. For each listener it tells by what evidence a
caller like you would be known, what the agent says, and why that can be trusted.

Run it as egret's user and where egret runs: the agent and the kernel answer who asks.
It changes nothing, and may run beside the egret that it looks at.

Exit code: 1 with any FAIL, else 0.`,
		Example: "  egret doctor -c /etc/egret/egret.yaml\n  egret doctor -o json | jq '.findings[] | select(.level != \"ok\")'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path := orDefaultFile(file)
			if path == "" {
				return usagef("there is no %s here: name the settings with -c", defaultFile)
			}
			defer slow(cmd.ErrOrStderr(), "waiting for answers")()
			return reportFindings(cmd.OutOrStdout(), examine(cmd.Context(), path), out)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "settings of the node (default: egret.yaml, where it is there)")
	out.flag(cmd)
	return cmd
}

// examine judges settings and policy as egret check does, and then the rest.
func examine(ctx context.Context, file string) []doctor.Finding {
	node, faults := config.LoadNode(file, config.Env{})
	if len(faults) > 0 {
		return faultFindings("settings", faults)
	}
	found := []doctor.Finding{{Check: "settings", Level: doctor.OK, Found: file}}
	var r checked
	r.load(node, config.LoadOptions{})
	found = append(found, faultFindings("policy", r.Faults)...)
	if len(r.Faults) == 0 {
		found = append(found, doctor.Finding{Check: "policy", Level: doctor.OK, Found: strings.Join(r.Found, ", ")})
	}
	for _, note := range r.Notes {
		found = append(found, doctor.Finding{Check: "policy", Level: doctor.Warn, Found: note, Change: "see egret check"})
	}
	return append(found, doctor.Examine(ctx, doctor.Options{Config: node})...)
}

func faultFindings(check string, faults config.Faults) []doctor.Finding {
	out := make([]doctor.Finding, 0, len(faults))
	for _, f := range faults {
		hint := f.Hint
		if hint == "" {
			hint = "see egret check"
		}
		f.Hint = ""
		out = append(out, doctor.Finding{Check: check, Level: doctor.Fail, Found: f.Error(), Change: hint})
	}
	return out
}

func reportFindings(w io.Writer, list []doctor.Finding, out output) error {
	failed := slices.ContainsFunc(list, func(f doctor.Finding) bool { return f.Level == doctor.Fail })
	err := printFindings(w, list, failed, out)
	if err == nil && failed {
		return exitCode(exitFailed)
	}
	return err
}

func printFindings(w io.Writer, list []doctor.Finding, failed bool, out output) error {
	if out.json() {
		return out.write(w, struct {
			OK       bool             `json:"ok"`
			Findings []doctor.Finding `json:"findings"`
		}{!failed, list})
	}
	for _, f := range list {
		if _, err := fmt.Fprintf(w, "%-4s  %s: %s\n", f.Level, escape.Terminal(f.Check), escape.Terminal(f.Found)); err != nil {
			return err
		}
		if f.Change == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "      change: %s\n", escape.Terminal(f.Change)); err != nil {
			return err
		}
	}
	return nil
}
