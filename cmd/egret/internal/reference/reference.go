// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package reference writes the pages of docs/reference from what the program itself
// knows: its commands, settings, governed objects, metrics, reasons and records. Words
// come from the doc comments of the source, so that what is read in the code and what
// is read in the reference are the same. It needs the source tree and changes nothing
// but its output folder.
package reference

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

// Options are what the pages are made of.
type Options struct {
	Root   *cobra.Command // the whole command line
	Source string         // root of the source tree
}

// page is one file of the reference.
type page struct {
	name  string
	write func(Options, *markdown) error
}

func pages() []page {
	return []page{
		{"cli.md", writeCommands},
		{"config.md", writeSettings},
		{"policy.md", writeObjects},
		{"metrics.md", writeMetrics},
		{"reasons.md", writeReasons},
		{"records.md", writeRecords},
	}
}

// Write writes every page into dir and makes it where it is missing. The same source
// gives the same bytes, on every machine.
func Write(dir string, o Options) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // documentation is for everyone
		return fmt.Errorf("reference: %w", err)
	}
	for _, p := range pages() {
		m := &markdown{}
		if err := p.write(o, m); err != nil {
			return fmt.Errorf("reference: %s: %w", p.name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, p.name), m.bytes(), 0o644); err != nil { //nolint:gosec // documentation is for everyone
			return fmt.Errorf("reference: %w", err)
		}
	}
	return nil
}
