// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package deps

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// egretRules are those of this tree.
//
// An arrow that is missing here is a change of the design: write down why (docs/adr) and
// add it in the same commit.
func egretRules() rules {
	return rules{
		arrows: map[string][]string{
			// The leaves know no siblings. Who talks to an issuer needs the words for what it
			// sent as much as who talks to a SaaS: none of it may be quoted. Files that must survive a
			// power cut are replaced in one place.
			"identity": nil, "policy": nil, "credential": {"internal/wireerr", "internal/durable"}, "certs": {"internal/durable"}, "audit": {"internal/durable"},

			// The stem sees them all, and nobody sees the stem but config and cmd.
			"proxy": {"identity", "policy", "credential", "certs", "audit", "internal/sockopt", "internal/wireerr", "internal/h1"},

			"api":    {"policy", "credential", "internal/levenshtein"},
			"config": {"api", "identity", "policy", "credential", "certs", "audit", "proxy", "internal/levenshtein"},
			"kube":   {"api", "identity", "credential"},
			"cmd": {
				"config", "kube", "api", "identity", "policy", "credential", "certs", "audit", "proxy", "internal", "examples",
			},

			"internal/steer":    {"internal/netns", "internal/sockopt"},
			"internal/launch":   {"certs"},                    // trust files for a program
			"internal/ops":      {"audit", "internal/escape"}, // calls of the admin socket are recorded
			"examples":          nil,
			"examples/internal": {"examples/local", "config", "certs"}, // what tests of examples share

			"bench/internal/growth": {"bench", "identity"}, // ten thousand workloads have SVIDs of the embedded issuer
		},
		// Tests may use a real neighbour; it never weakens what ships.
		testArrows: map[string][]string{
			"proxy":            {"internal"},
			"identity":         {"internal"},
			"internal/sockopt": {"internal/netns"},
			"internal/h1":      {"internal/wireerr"}, // its errors have words there
			"config":           {"internal", "examples"},
			"examples":         {"internal", "config", "certs"},
			"integration": {
				"config", "api", "identity", "policy", "credential", "certs", "audit", "proxy", "internal", "examples",
			},
			"bench": {"proxy", "identity", "policy", "credential", "certs", "audit", "internal"},
		},
		everyone: "internal/secret",
		homes: map[string]string{
			"github.com/elazarl/goproxy": "proxy/connect.go or bench/peers/goproxy/", // the front door, and the peer that egret is measured against
			"gopkg.in/yaml.v3":           "config/",
			"go.yaml.in/yaml":            "config/",
			"sigs.k8s.io":                "kube/",
			"k8s.io":                     "kube/",
			"k8s.io/cri-api":             "internal/cri/ or integration/", // the node's container runtime: for egret steer only
			"github.com/spf13/cobra":     "cmd/",
			"net/http/pprof":             "nowhere: it registers itself with http.DefaultServeMux",
			"expvar":                     "nowhere: it registers itself with http.DefaultServeMux",
			"golang.org/x/net/proxy":     "nowhere: it reads the process environment",
		},
	}
}

func TestTheTreeFollowsTheDesign(t *testing.T) {
	t.Parallel()
	tree := readTree(t, "../..")
	if len(tree) < 100 {
		t.Fatalf("only %d files read: is this the root of the tree?", len(tree))
	}
	for _, fault := range egretRules().faults(tree) {
		t.Error(fault)
	}
}

// The checker itself is held to a tree in which everything is wrong once.
func TestFaultsAreFound(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile("testdata/faults.txt")
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(egretRules().faults(readTree(t, "testdata/bad")), "\n") + "\n"
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("faults of testdata/bad (-want +got):\n%s", d)
	}
}

func TestATreeWithoutFaultsHasNone(t *testing.T) {
	t.Parallel()
	if got := egretRules().faults(readTree(t, "testdata/good")); len(got) != 0 {
		t.Errorf("faults of testdata/good: %q", got)
	}
}

// Every listed part must still be there, so that no rule outlives what it was for. What
// the design names and is yet to come is listed here.
func TestRulesNameWhatExists(t *testing.T) {
	t.Parallel()
	later := map[string]bool{"kube": true, "bench": true}
	r := egretRules()
	for _, list := range []map[string][]string{r.arrows, r.testArrows} {
		for part := range list {
			if _, err := os.Stat("../../" + part); err != nil && !later[part] {
				t.Errorf("the rules name %q, which is gone", part)
			}
		}
	}
}
