// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package policy

import "slices"

// Overlap reports whether some request of one workload could be decided by both rules:
// same workload and destination, and methods, path templates and operations that have
// something in common. Rules of tunnels have neither and overlap wherever workload and
// destination are the same. When the rules run, and in which mode, is not looked at.
func Overlap(a, b *Rule) bool {
	if a.Workload != b.Workload || a.Destination != b.Destination {
		return false
	}
	if a.Destination != nil && !a.Destination.Intercept {
		return true
	}
	return intersect(a.Methods, b.Methods) && operationsIntersect(a.Operations, b.Operations) &&
		templatesMeet(templateSegments(a.PathTemplate), templateSegments(b.PathTemplate))
}

// intersect treats an empty list as everything.
func intersect(a, b []string) bool {
	return len(a) == 0 || len(b) == 0 ||
		slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

// operationsIntersect is intersect for operations, which may end with *.
func operationsIntersect(a, b []string) bool {
	return len(a) == 0 || len(b) == 0 || slices.ContainsFunc(a, func(s string) bool {
		return slices.ContainsFunc(b, func(o string) bool { return operationsMeet(s, o) })
	})
}

// templatesMeet reports whether some path matches both templates.
func templatesMeet(a, b []segment) bool {
	for i := range min(len(a), len(b)) {
		if a[i].kind == restSegments || b[i].kind == restSegments {
			return true
		}
		if !a[i].meets(b[i]) {
			return false
		}
	}
	return len(a) == len(b)
}
