// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// setting says where and how it was measured.
func (r *Report) setting(b *strings.Builder) {
	fmt.Fprintf(b, "## Setting\n\n* machine: %d cores, %s, %s %s, %s; load average %s before, %s after\n", r.Machine.Cores, r.Machine.CPU,
		r.Machine.OS, r.Machine.Kernel, r.Machine.Arch, r.Machine.Load, r.LoadEnd)
	if f := r.foreign(); f.N > 0 {
		fmt.Fprintf(b, "* CPU that others used meanwhile: %.0f %% of the machine (%.0f–%.0f)\n", 100*f.Median, 100*f.Q1, 100*f.Q3)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		fmt.Fprintf(b, "* version of %s: %s\n", name, r.Versions[name])
	}
	for _, t := range r.Targets {
		if t.Setting == "" {
			continue
		}
		fmt.Fprintf(b, "* %s: %s\n", t.Name, t.Setting)
	}
	if len(r.Windows) > 0 {
		failed, first := r.Errors()
		fmt.Fprintf(b, "* %d rounds, interleaved, windows of %s; requests that failed: %d", r.Rounds, r.Window, failed)
		if first != "" {
			fmt.Fprintf(b, " (first: %q)", first)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(b, "* command: `%s`\n", r.Command)
	r.configs(b)
}

// configs prints the files that targets were started with, folded.
func (r *Report) configs(b *strings.Builder) {
	for _, t := range r.Targets {
		for _, c := range t.Configs {
			fence := "```"
			for strings.Contains(c.Text, fence) {
				fence += "`"
			}
			fmt.Fprintf(b, "\n<details><summary>%s: %s</summary>\n\n%s\n%s\n%s\n\n</details>\n", t.Name, c.Name, fence, strings.TrimSpace(c.Text), fence)
		}
	}
}
