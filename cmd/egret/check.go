// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/egret-proxy/egret/certs"
	"github.com/egret-proxy/egret/cmd/egret/internal/node"
	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/internal/escape"
)

func newCheckCommand() *cobra.Command {
	var file string
	var out output
	cmd := &cobra.Command{
		Use:   "check [-c egret.yaml] [PATH...]",
		Short: "Find every fault of settings and policy at once",
		Long: `Read settings and policy exactly as egret run does and report every fault with its
file, line, rule and a hint. PATH is a policy file or folder; with -c the settings and
the policy that they name are checked too, the CA's permitted names included. Without
both, egret.yaml is checked where it is there. Secrets, folders of state files and
programs that the node allows are needed with -c only: in a review there are none.

It also notes what is not a fault yet: grants that have ended or soon will, and
reviews that are due, and policies that only observe.

Exit code: 0 without faults, 1 with.`,
		Example: "  egret check policy/\n  egret check -c /etc/egret/egret.yaml\n  egret check -o json policy/ | jq '.faults[].hint'",
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := unlessEnded(cmd.Context(), func() (*checked, error) { return check(file, args) })
			if err != nil {
				return err
			}
			return r.report(cmd.OutOrStdout(), cmd.ErrOrStderr(), out)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "settings of the node (egret.yaml)")
	out.flag(cmd)
	return cmd
}

// unlessEnded leaves f behind where the context ends first: a disk that does not answer
// must not keep SIGTERM from ending us. The process is about to.
func unlessEnded[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// checked is what check found.
type checked struct {
	Faults config.Faults
	Notes  []string
	Found  []string

	bundle *config.Bundle // nil where there are faults
}

// foundFault is a fault in JSON.
type foundFault struct {
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Path   string `json:"path,omitempty"`
	Value  string `json:"value,omitempty"`
	Rule   string `json:"rule"`
	Hint   string `json:"hint,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (r *checked) MarshalJSON() ([]byte, error) {
	faults := make([]foundFault, 0, len(r.Faults))
	for _, f := range r.Faults {
		faults = append(faults, foundFault(f))
	}
	return json.Marshal(struct {
		Faults []foundFault `json:"faults"`
		Notes  []string     `json:"notes"`
		Found  []string     `json:"found"`
	}{faults, r.Notes, r.Found})
}

func check(file string, paths []string) (*checked, error) {
	if file == "" && len(paths) == 1 && isNodeFile(paths[0]) {
		file, paths = paths[0], nil
	}
	if len(paths) == 0 {
		file = orDefaultFile(file)
	}
	if file == "" && len(paths) == 0 {
		return nil, usagef("nothing to check: name policy files or folders, or the settings with -c")
	}
	r := &checked{Notes: []string{}, Found: []string{}}
	if file != "" {
		r.node(file)
	}
	if len(paths) > 0 {
		r.load(policyOnly(paths), config.LoadOptions{SecretsElsewhere: true})
	}
	return r, nil
}

// node checks settings and, as far as they can be read, the policy that they name.
func (r *checked) node(file string) {
	cfg, faults := config.ReadNode(file, config.Env{})
	r.Faults = append(r.Faults, faults...)
	about := func(section string) bool {
		return slices.ContainsFunc(faults, func(f config.Fault) bool { return strings.HasPrefix(f.Path, section) })
	}
	if cfg == nil || about("policy") {
		return
	}
	if about("certs") { // told already
		cfg.Certs.Issuer = config.CertIssuer{Ephemeral: &config.Ephemeral{}}
	}
	r.load(cfg, config.LoadOptions{})
	r.revocations(cfg)
}

// revocations looks at the file without which egret run does not start.
func (r *checked) revocations(cfg *config.Node) {
	if _, err := node.ReadRevocations(cfg.Admin.Revocations); err != nil {
		r.Faults = append(r.Faults, config.Fault{Path: "admin.revocations", Rule: strings.TrimPrefix(err.Error(), "admin.revocations: ")})
	}
}

// isNodeFile tells egret.yaml from a policy document, so that both can be named plainly.
func isNodeFile(path string) bool {
	b, err := config.ReadFile(path)
	return err == nil && (bytes.HasPrefix(b, []byte("listeners:")) || bytes.Contains(b, []byte("\nlisteners:")))
}

// policyOnly is a node that has no more than policy: the CA is not checked then.
func policyOnly(paths []string) *config.Node {
	cfg := config.Defaults()
	cfg.Certs.Issuer.Ephemeral = &config.Ephemeral{}
	for _, p := range paths {
		cfg.Policy.Paths = append(cfg.Policy.Paths, config.PolicyPath{Path: p})
	}
	return &cfg
}

func (r *checked) load(cfg *config.Node, opt config.LoadOptions) {
	if files := cfg.Certs.Issuer.File; len(files) > 0 {
		list := make([]certs.IssuerFile, 0, len(files))
		for _, f := range files {
			list = append(list, certs.IssuerFile{Chain: f.Chain, Key: f.Key})
		}
		issuer, err := certs.NewFileIssuer(list...)
		if err != nil {
			r.Faults = append(r.Faults, config.Fault{Path: "certs.issuer.file", Rule: err.Error(), Hint: "egret ca issue makes intermediates"})
			return
		}
		opt.Permits, opt.Authorities = issuer.Permits, issuer.Authorities()
	}
	b, faults := config.Load(cfg, opt)
	r.Faults = append(r.Faults, faults...)
	if b == nil {
		return
	}
	r.bundle = b
	r.Notes = append(r.Notes, b.Notes...)
	set := b.Compiled.Set
	r.Found = append(r.Found, count(len(set.Bindings), "workload"), count(len(set.Destinations), "destination"),
		count(len(b.Compiled.Credentials), "credential"), count(len(set.Rules)+len(set.Tunnels), "rule"))
	r.notes(b, time.Now())
}

// soon is when the end of a grant or a review is worth a note.
const soon = 30 * 24 * time.Hour

func (r *checked) notes(b *config.Bundle, now time.Time) {
	seen := map[string]bool{}
	for _, rule := range append(b.Compiled.Set.Rules, b.Compiled.Set.Tunnels...) {
		if seen[rule.Policy] {
			continue
		}
		seen[rule.Policy] = true
		if rule.Observe {
			r.notef("policy %q only observes: requests that it does not allow are forwarded all the same; owner %s", rule.Policy, rule.Owner)
		}
		end, review := rule.Expires, rule.ReviewBy
		switch {
		case !now.Before(end):
			r.notef("policy %q ended on %s: remove it, or its owner %s renews it", rule.Policy, utcDay(end.Add(-time.Second)), rule.Owner)
		case end.Sub(now) < soon:
			r.notef("policy %q ends on %s; owner %s", rule.Policy, utcDay(end.Add(-time.Second)), rule.Owner)
		}
		if !review.IsZero() && review.Sub(now) < soon && now.Before(end) {
			r.notef("policy %q is due for review by %s; owner %s", rule.Policy, utcDay(review.Add(-time.Second)), rule.Owner)
		}
	}
}

func (r *checked) notef(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

func (r *checked) report(stdout, stderr io.Writer, out output) error {
	if out.json() {
		if err := out.write(stdout, r); err != nil {
			return err
		}
	} else {
		for _, n := range r.Notes {
			_, _ = fmt.Fprintln(stdout, "note: "+escape.Terminal(n))
		}
		if len(r.Faults) == 0 {
			_, _ = fmt.Fprintf(stdout, "ok: %s\n", strings.Join(r.Found, ", "))
		}
	}
	if len(r.Faults) == 0 {
		return nil
	}
	if !out.json() {
		tell(stderr, r.Faults)
	}
	return exitCode(exitFailed)
}
