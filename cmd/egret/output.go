// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
)

// output is the flag -o of commands that print a table.
type output string

func (o *output) flag(cmd *cobra.Command) {
	cmd.Flags().VarP(o, "output", "o", "output format: text or json")
}

// String implements pflag.Value.
func (o *output) String() string {
	if *o == "" {
		return "text"
	}
	return string(*o)
}

// Set implements pflag.Value.
func (o *output) Set(s string) error {
	if s != "text" && s != "json" {
		return fmt.Errorf("must be text or json")
	}
	*o = output(s)
	return nil
}

// Type implements pflag.Value.
func (o *output) Type() string { return "format" }

func (o *output) json() bool { return *o == "json" }

// slow tells what is waited for where it takes more than a second. Call stop when it is
// over.
func slow(w io.Writer, format string, args ...any) (stop func()) {
	t := time.AfterFunc(time.Second, func() {
		_, _ = fmt.Fprintf(w, "egret: "+format+"\n", args...)
	})
	return func() { t.Stop() }
}

// write prints v as indented JSON.
func (o *output) write(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
