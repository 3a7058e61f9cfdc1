// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/spf13/cobra"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/audit"
	"github.com/egret-proxy/egret/cmd/egret/internal/node"
	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/internal/ops"
	"github.com/egret-proxy/egret/policy"
	"github.com/egret-proxy/egret/proxy"
)

type whyOptions struct {
	as, evidence, at string
	operations       []string
	file             string
	policies         []string
	auditFile        string
	live             bool
	socket           string
	out              output
}

func newWhyCommand() *cobra.Command {
	var o whyOptions
	cmd := &cobra.Command{
		Use:   "why [--as SPIFFE-ID METHOD URL | REQUEST-ID]",
		Short: "Explain what is or was decided, and by which rule",
		Long: `Explain a decision.

With --as, a method and a URL: what policy decides for that request now (or --at a
time), which rule decides it and, where it is denied, the nearest rule and the one
thing that did not match. Nothing is sent. With --live the running egret walks the
way itself, identity, policy, credential, TLS, upstream, with a verdict per stage.

With a request id (from Egret-Decision, the problem body, or a log): what the record
of that request says. Rotated files are searched too.

Settings are those of -c, or of egret.yaml where it is there.

Exit code: 0 allowed, 3 denied, 1 could not tell.`,
		Example: `  egret why --policy policy/ --as spiffe://acme.example/ns/qa/sa/dashboard POST https://slack.com/api/chat.postMessage
  egret why -c egret.yaml --live GET https://api.qase.io/v1/project
  egret why -c egret.yaml k7f3q2m9x4c8a6wd`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usagef("say what to explain: a request id, or METHOD and URL")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 1:
				return o.record(cmd.OutOrStdout(), args[0])
			case o.live:
				return o.walk(cmd, args[0], args[1])
			}
			return o.explain(cmd.OutOrStdout(), args[0], args[1])
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.as, "as", "", "SPIFFE ID of the caller")
	f.StringVar(&o.evidence, "evidence", "", "evidence of the caller (default: the first that its Workload accepts)")
	f.StringArrayVar(&o.operations, "operation", nil, "what the request does, where its body tells, such as query:repository (may be repeated)")
	f.StringVar(&o.at, "at", "", "when, as 2026-12-01T05:10:00Z (default: now)")
	f.StringVarP(&o.file, "config", "c", "", "settings of the node, for its policy, audit file and admin socket")
	f.StringArrayVar(&o.policies, "policy", nil, "policy file or folder, instead of -c (may be repeated)")
	f.StringVar(&o.auditFile, "audit", "", "audit file to look a request id up in (default: the node's)")
	f.BoolVar(&o.live, "live", false, "walk the way on the running egret")
	f.StringVar(&o.socket, "socket", "", "admin socket of the running egret (default: the node's)")
	o.out.flag(cmd)
	return cmd
}

// node reads the settings that -c names.
func (o *whyOptions) node() (*config.Node, error) {
	file := orDefaultFile(o.file)
	if file == "" {
		return nil, usagef("name the node's settings with -c")
	}
	n, faults := config.LoadNode(file, config.Env{})
	if len(faults) > 0 {
		return nil, faults
	}
	return n, nil
}

// load compiles the policy that the flags name.
func (o *whyOptions) load() (*policy.Policy, error) {
	var cfg *config.Node
	var opt config.LoadOptions
	switch {
	case len(o.policies) > 0:
		opt.SecretsElsewhere = true // they play no part in a decision
		cfg = policyOnly(o.policies)
	case orDefaultFile(o.file) != "":
		n, err := o.node()
		if err != nil {
			return nil, err
		}
		n.Certs.Issuer = config.CertIssuer{Ephemeral: &config.Ephemeral{}} // the CA plays no part in a decision
		cfg = n
	default:
		return nil, usagef("name the policy with --policy, or the node's settings with -c")
	}
	b, faults := config.Load(cfg, opt)
	if len(faults) > 0 {
		return nil, faults
	}
	return inForce(b, cfg)
}

// inForce is policy without what was revoked by hand, as far as the settings' file says.
func inForce(b *config.Bundle, cfg *config.Node) (*policy.Policy, error) {
	revoked, err := node.ReadRevocations(cfg.Admin.Revocations)
	if err != nil {
		return nil, err
	}
	return policy.New(b.Compiled.Set).Revoke(revoked), nil
}

// explained is the answer in JSON.
type explained struct {
	Verdict  string        `json:"verdict"`
	Observed bool          `json:"observed,omitempty"`
	Reason   policy.Reason `json:"reason,omitempty"`
	Why      string        `json:"why"`
	Hint     string        `json:"hint,omitempty"`
	Minting  string        `json:"minting,omitempty"` // id of the call that would hand out a secret
	Policy   string        `json:"policy,omitempty"`
	Owner    string        `json:"owner,omitempty"`
	Workload string        `json:"workload,omitempty"`
	Nearest  []missed      `json:"nearest,omitempty"`
}

type missed struct {
	Policy string `json:"policy"`
	Owner  string `json:"owner"`
	Why    string `json:"why"`
}

func (o *whyOptions) explain(w io.Writer, method, raw string) error {
	ask, query, err := o.parseURL(method, raw)
	if err != nil {
		return err
	}
	if o.as == "" {
		return usagef("say who asks with --as SPIFFE-ID")
	}
	if ask.ID, err = spiffeid.FromString(o.as); err != nil {
		return usagef("--as %q: must be a SPIFFE ID: %w", o.as, err)
	}
	p, err := o.load()
	if err != nil {
		return err
	}
	ask.Evidence = o.evidence
	if wl := p.Workload(ask.ID); wl != nil && ask.Evidence == "" && len(wl.Evidence) > 0 {
		ask.Evidence = wl.Evidence[0]
	}
	return o.tellExplanation(w, judge(p, ask, query), ask.Method)
}

func (o *whyOptions) tellExplanation(w io.Writer, x policy.Explanation, method string) error {
	out := explained{Verdict: x.Decision.Verdict.String(), Observed: x.Decision.Observed, Reason: x.Decision.Reason, Why: x.Why}
	if x.Admission.Verdict == policy.Tunnel {
		out.Verdict, out.Reason = policy.Tunnel.String(), ""
	}
	if r := x.Decision.Rule; r != nil {
		out.Policy, out.Owner = r.Policy, r.Owner
	}
	if x.Decision.Workload != nil {
		out.Workload = x.Decision.Workload.Name
	}
	for _, m := range x.Nearest {
		out.Nearest = append(out.Nearest, missed{m.Rule.Policy, m.Rule.Owner, m.Why})
	}
	out.Hint = hint(x, method)
	out.Minting = x.Decision.Minting
	if o.out.json() {
		if err := o.out.write(w, out); err != nil {
			return err
		}
	} else {
		printExplained(w, out)
	}
	if out.Verdict == policy.Deny.String() && !out.Observed {
		return exitCode(exitDenied)
	}
	return nil
}

// walk asks the running egret.
func (o *whyOptions) walk(cmd *cobra.Command, method, raw string) error {
	ask, query, err := o.parseURL(method, raw)
	if err != nil {
		return err
	}
	socket, err := (&adminOptions{file: o.file, socket: o.socket}).find()
	if err != nil {
		return err
	}
	defer slow(cmd.ErrOrStderr(), "waiting for the egret at %s, which walks the whole way", socket)()
	var walk proxy.Walk
	err = ops.Do(cmd.Context(), ops.Dial(socket), ops.Call{Method: http.MethodPost, Path: "/v1/walk", Out: &walk, In: node.WalkRequest{
		ID: o.as, Method: ask.Method, Target: ask.Target.String(), Path: ask.Path, Query: query, Operations: ask.Operations,
	}})
	if err != nil {
		return err
	}
	return o.tellWalk(cmd.OutOrStdout(), walk)
}

func (o *whyOptions) tellWalk(w io.Writer, walk proxy.Walk) error {
	if o.out.json() {
		if err := o.out.write(w, walk); err != nil {
			return err
		}
	} else {
		printWalk(w, walk)
	}
	if !walk.OK {
		return exitCode(exitDenied)
	}
	return nil
}

// record explains a request by its record.
func (o *whyOptions) record(w io.Writer, id string) error {
	path := o.auditFile
	if path == "" {
		if orDefaultFile(o.file) == "" {
			return usagef("where are the records? name the audit file with --audit, or the settings with -c")
		}
		n, err := o.node()
		if err != nil {
			return err
		}
		if path = n.Audit.File; path == "" || path == "-" {
			return errors.New("this node writes its records to standard output: look there, or name the file with --audit")
		}
	}
	found, err := audit.Find(path, id)
	if _, gone := os.Stat(path); err != nil && gone != nil {
		return fmt.Errorf("audit file: %w", gone) // says more than that the id is not in it
	}
	if err != nil {
		return err
	}
	if o.out.json() {
		return o.out.write(w, found)
	}
	for i := range found {
		if i > 0 {
			_, _ = fmt.Fprintln(w)
		}
		printRecord(w, &found[i])
	}
	return nil
}
