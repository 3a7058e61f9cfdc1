// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package steering

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/egret-proxy/egret/internal/redirect"
)

// programs answers as it is told, and notes what was started.
type programs struct {
	answers map[string]string
	fail    map[string]error
	started []string
}

func (p *programs) Run(_ context.Context, input, program string, args ...string) (string, error) {
	call := strings.TrimSpace(program + " " + strings.Join(args, " "))
	p.started = append(p.started, call)
	if input != "" {
		p.answers["nft list ruleset"] = input
	}
	return p.answers[call], p.fail[program]
}

func plan(t *testing.T) *redirect.Plan {
	t.Helper()
	p, err := redirect.New(redirect.Nft, redirect.Options{Port: 8651, UID: redirect.NoUID, Apart: true, IncludePorts: []uint16{443}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestFewProgramsAreStarted: a pod without rules costs two programs, of which one looks; what
// has rules of a family is looked at as ever.
func TestFewProgramsAreStarted(t *testing.T) {
	if legacyTables("iptables-legacy-save") || legacyTables("ip6tables-legacy-save") {
		t.Skip("this machine's own namespace has tables of the old iptables")
	}
	for name, tc := range map[string]struct {
		ruleset string
		most    int
	}{
		"no rules":            {"", 2},
		"egret's from before": {"table inet egret {\n}\n", 2},
		"others' of inet":     {"table inet filter {\n}\n", 2},
		"others' of ip":       {"table ip nat {\n}\n", 4},
	} {
		t.Run(name, func(t *testing.T) {
			p := &programs{answers: map[string]string{"nft list ruleset": tc.ruleset}}
			fw := redirect.NewFirewall(&thrifty{Runner: p})
			b, err := fw.Choose(t.Context(), redirect.Auto)
			if err != nil || b != redirect.Nft {
				t.Fatalf("%s, %v", b, err)
			}
			if err := fw.Apply(t.Context(), plan(t)); err != nil {
				t.Fatal(err)
			}
			if len(p.started) > tc.most || p.started[len(p.started)-1] != "nft -f -" {
				t.Errorf("started %q", p.started)
			}
		})
	}
}

// TestWhatIsChangedIsLookedAtAnew: an answer is not kept beyond a change.
func TestWhatIsChangedIsLookedAtAnew(t *testing.T) {
	p := &programs{answers: map[string]string{}}
	r := &thrifty{Runner: p}
	fw := redirect.NewFirewall(r)
	if err := fw.Apply(t.Context(), plan(t)); err != nil {
		t.Fatal(err)
	}
	if found, err := fw.Look(t.Context()); err != nil || len(found.Backends) != 1 {
		t.Errorf("%+v, %v", found, err)
	}
}

// TestIstioIsFound: what is left out are questions without an answer only.
func TestIstioIsFound(t *testing.T) {
	p := &programs{answers: map[string]string{"nft list ruleset": "table ip nat {\n}\n", "iptables-nft-save": "-A ISTIO_OUTPUT -j ACCEPT\n"}}
	if err := redirect.NewFirewall(&thrifty{Runner: p}).Apply(t.Context(), plan(t)); err == nil || !strings.Contains(err.Error(), "Istio") {
		t.Errorf("got %v", err)
	}
	p = &programs{answers: map[string]string{}, fail: map[string]error{"nft": fmt.Errorf("nft: %w", redirect.ErrMissing)}}
	if _, err := (&thrifty{Runner: p}).Run(t.Context(), "", "iptables-nft-save"); err != nil || len(p.started) != 1 {
		t.Errorf("without nft, iptables was not asked: %v, %q", err, p.started)
	}
}
