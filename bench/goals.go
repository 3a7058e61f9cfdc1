// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	_ "embed"

	"github.com/egret-proxy/egret/bench/internal/report"
)

// goalsJSON is what egret is held to. Loads, peers and figures are called as in the
// report; what a run did not measure is said so.
//
//go:embed goals.json
var goalsJSON []byte

func goals() ([]report.Goal, error) { return report.ParseGoals(goalsJSON) }
