// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package report

// Plots, as in the names of their files.
const (
	plotCPU     = "cpu"
	plotLatency = "latency"
	plotGrowth  = "growth"
)

func (r *Report) plotName(kind string) string { return r.Stem() + "-" + kind + ".svg" }
