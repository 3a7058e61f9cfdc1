// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/internal/escape"
	"github.com/egret-proxy/egret/policy"
	"github.com/egret-proxy/egret/proxy"
)

func newPolicyCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "policy",
		Short:   "Work on policy",
		Example: "  egret policy test policy/",
	})
	cmd.AddCommand(newPolicyTestCommand())
	return cmd
}

func newPolicyTestCommand() *cobra.Command {
	var policies []string
	var out output
	cmd := &cobra.Command{
		Use:   "test DIR",
		Short: "Run table tests against policy",
		Long: `Run the tests in DIR (files *_test.yaml, in any depth) against the policy in DIR, or
against that of --policy. A test file looks like this:

  tests:
    - name: the dashboard may post
      as: spiffe://acme.example/ns/qa/sa/dashboard
      request: POST https://slack.com/api/chat.postMessage
      operations: [query:viewer]   # optional: what it does, where its body tells
      at: 2026-12-01T05:10:00Z     # optional: now
      evidence: sidecar            # optional: the first that the Workload accepts
      want: allow                  # or deny, tunnel
      reason: policy/no_policy     # optional, with deny
      policy: dashboard-posts      # optional, with allow

Exit code: 0 when all pass, 1 when one does not.`,
		Example: "  egret policy test policy/\n  egret policy test tests/ --policy policy/",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(policies) == 0 {
				policies = args
			}
			o := whyOptions{policies: policies}
			p, err := o.load()
			if err != nil {
				return err
			}
			tests, faults := config.LoadTests(args[0])
			if len(faults) > 0 {
				return faults
			}
			if len(tests) == 0 {
				return fmt.Errorf("no tests in %q: write a file NAME_test.yaml (egret policy test --help shows one)", args[0])
			}
			return runPolicyTests(cmd.OutOrStdout(), p, tests, out)
		},
	}
	cmd.Flags().StringArrayVar(&policies, "policy", nil, "policy file or folder (default: DIR)")
	out.flag(cmd)
	return cmd
}

// tested is the outcome of one test.
type tested struct {
	Name string `json:"name"`
	File string `json:"file"`
	Line int    `json:"line"`
	Pass bool   `json:"pass"`
	Want string `json:"want"`
	Got  string `json:"got"`
	Why  string `json:"why,omitempty"`
}

func runPolicyTests(w io.Writer, p *policy.Policy, tests []config.Test, out output) error {
	results, failed := make([]tested, 0, len(tests)), 0
	for _, t := range tests {
		r, err := runPolicyTest(p, t)
		if err != nil {
			return fmt.Errorf("%s:%d: %w", t.File, t.Line, err)
		}
		if !r.Pass {
			failed++
		}
		results = append(results, r)
	}
	if out.json() {
		if err := out.write(w, results); err != nil {
			return err
		}
	} else {
		printTested(w, results)
		_, _ = fmt.Fprintf(w, "%d passed, %d failed\n", len(results)-failed, failed)
	}
	if failed > 0 {
		return exitCode(exitFailed)
	}
	return nil
}

func printTested(w io.Writer, results []tested) {
	for _, r := range results {
		word := "ok  "
		if !r.Pass {
			word = "FAIL"
		}
		_, _ = fmt.Fprintf(w, "%s  %s\n", word, escape.Terminal(r.Name))
		if !r.Pass {
			_, _ = fmt.Fprintf(w, "      %s:%d: want %s, got %s\n      %s\n", escape.Terminal(r.File), r.Line, escape.Terminal(r.Want), escape.Terminal(r.Got), escape.Terminal(r.Why))
		}
	}
}

func runPolicyTest(p *policy.Policy, t config.Test) (tested, error) {
	known := func(i proxy.ReasonInfo) bool { return string(i.Reason) == t.Reason }
	if t.Reason != "" && !slices.ContainsFunc(proxy.Reasons(), known) {
		return tested{}, fmt.Errorf("reason %q: must be a reason of egret, layer and code, such as %s", t.Reason, policy.ReasonNoPolicy)
	}
	method, raw, _ := strings.Cut(t.Request, " ")
	o := whyOptions{at: t.At, operations: t.Operations}
	ask, query, err := o.parseURL(method, strings.TrimSpace(raw))
	if err != nil {
		return tested{}, fmt.Errorf("request: %w", err)
	}
	if ask.ID, err = spiffeid.FromString(t.As); err != nil {
		return tested{}, fmt.Errorf("as %q: %w", t.As, err)
	}
	if t.At == "" {
		ask.At = time.Now()
	}
	ask.Evidence = t.Evidence
	if wl := p.Workload(ask.ID); wl != nil && ask.Evidence == "" && len(wl.Evidence) > 0 {
		ask.Evidence = wl.Evidence[0]
	}
	x := judge(p, ask, query)
	verdict, name := x.Decision.Verdict, ""
	if x.Admission.Verdict == policy.Tunnel {
		verdict = policy.Tunnel
	}
	if x.Decision.Rule != nil {
		name = x.Decision.Rule.Policy
	}
	r := tested{
		Name: t.Name, File: t.File, Line: t.Line, Why: x.Why,
		Want: words(t.Want, t.Reason, t.Policy), Got: words(verdict.String(), string(x.Decision.Reason), name),
	}
	r.Pass = verdict.String() == t.Want && (t.Reason == "" || string(x.Decision.Reason) == t.Reason) && (t.Policy == "" || name == t.Policy)
	return r, nil
}

// words joins what is not empty.
func words(list ...string) string {
	return strings.Join(slices.DeleteFunc(list, func(s string) bool { return s == "" }), " ")
}
