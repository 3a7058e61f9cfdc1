// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"

	"github.com/egret-proxy/egret/internal/levenshtein"
)

// didYouMean returns a hint with the name that a misspelt one is nearest to, or "".
func didYouMean(name string, known []string) string {
	best, most := "", 2+len(name)/3
	for _, k := range known {
		if len(k) > 63 || len(name) > 63 {
			continue
		}
		if d := levenshtein.Distance(name, k); d < most || d == most && best != "" && k < best {
			best, most = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %s?", best)
}
