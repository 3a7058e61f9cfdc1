// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "fmt"

// didYouMean returns a hint with the name that a misspelt one is nearest to, or "".
func didYouMean(name string, known []string) string {
	best, most := "", 2+len(name)/3
	for _, k := range known {
		if len(k) > 63 || len(name) > 63 {
			continue
		}
		if d := distance(name, k); d < most || d == most && best != "" && k < best {
			best, most = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %s?", best)
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := corner
			if a[i] != b[j] {
				cost++
			}
			corner = row[j+1]
			row[j+1] = min(cost, row[j]+1, corner+1)
		}
	}
	return row[len(b)]
}
