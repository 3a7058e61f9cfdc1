// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/egret-proxy/egret/internal/levenshtein"
)

// maxSuggest bounds the names for which a neighbour is looked for: the distance costs
// the product of the lengths.
const maxSuggest = 40

// suggest returns a hint for a name that is not among those known: the nearest of
// them, or all of them when none is near.
func suggest(name string, known []string) string {
	if best := nearest(name, known); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return listed(known)
}

// listed names everything that could stand there.
func listed(known []string) string {
	if len(known) == 0 {
		return ""
	}
	sorted := slices.Sorted(slices.Values(known))
	return "known here: " + strings.Join(sorted, ", ")
}

func nearest(name string, known []string) string {
	if len(name) > maxSuggest {
		return ""
	}
	best, bound := "", max(1, len(name)/3)+1
	for _, k := range known {
		if d := levenshtein.Distance(fold(name), fold(k)); d < bound {
			best, bound = k, d
		}
	}
	return best
}

// fold makes client_secret, client-secret and ClientSecret equal to clientSecret.
func fold(s string) string {
	return strings.ToLower(strings.Map(func(r rune) rune {
		if r == '_' || r == '-' {
			return -1
		}
		return r
	}, s))
}
