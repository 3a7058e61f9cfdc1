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
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/cmd/egret/internal/doctor"
	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/internal/escape"
	"github.com/egret-proxy/egret/policy"
)

func newDoctorCommand() *cobra.Command {
	var file string
	var pid int
	var out output
	cmd := &cobra.Command{
		Use:   "doctor [-c egret.yaml] [--pid N]",
		Short: "Look at everything around an egret and say what to change",
		Long: `Look at everything around an egret and say what to change: settings and policy, the
Workload API and egret's own SVID, the bundles of trust domains, the agent's leave to
ask for others (by its Delegated Identity API, and by the SPIFFE Broker API), the admin
socket and metrics, the CA and its keys, what the kernel can say about callers, and
every listener. For each listener it tells by what evidence a caller like you would be
known, who the agent says that this is, and why that can be trusted.

Run it as egret's user and where egret runs: the agent and the kernel answer who asks.
So "you" is egret's user there; --pid asks about a running program instead, at the
listeners that identify by process, and takes the way that its connections would. It
changes nothing, and may run beside the egret that it looks at.

Exit code: 1 with any FAIL, else 0.`,
		Example: "  egret doctor -c /etc/egret/egret.yaml\n  egret doctor --pid $(pidof report)      # who would it be?\n  egret doctor -o json | jq '.findings[] | select(.level != \"ok\")'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path := orDefaultFile(file)
			if path == "" {
				return usagef("there is no %s here: name the settings with -c", defaultFile)
			}
			if pid < 0 || cmd.Flags().Changed("pid") && pid == 0 {
				return usagef("--pid %d: must be a process of this machine", pid)
			}
			defer slow(cmd.ErrOrStderr(), "waiting for answers")()
			return reportFindings(cmd.OutOrStdout(), examine(cmd.Context(), path, pid), out)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "settings of the node (default: egret.yaml, where it is there)")
	cmd.Flags().IntVar(&pid, "pid", 0, "ask who this process would be, at listeners that identify by process")
	out.flag(cmd)
	return cmd
}

// examine judges settings and policy as egret check does, and then the rest.
func examine(ctx context.Context, file string, pid int) []doctor.Finding {
	node, faults := config.LoadNode(file, config.Env{})
	if len(faults) > 0 {
		return faultFindings("settings", faults)
	}
	found := []doctor.Finding{{Check: "settings", Level: doctor.OK, Found: file}}
	var r checked
	r.load(node, config.LoadOptions{})
	r.revocations(node)
	found = append(found, faultFindings("policy", r.Faults)...)
	if len(r.Faults) == 0 {
		found = append(found, doctor.Finding{Check: "policy", Level: doctor.OK, Found: strings.Join(r.Found, ", ")})
	}
	for _, note := range r.Notes {
		found = append(found, doctor.Finding{Check: "policy", Level: doctor.Warn, Found: note, Change: "see egret check"})
	}
	o := doctor.Options{Config: node, PID: pid}
	if r.bundle != nil {
		set := policy.New(r.bundle.Compiled.Set)
		o.IsWorkload = func(id spiffeid.ID) bool { return set.Workload(id) != nil }
	}
	return append(found, doctor.Examine(ctx, o)...)
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
