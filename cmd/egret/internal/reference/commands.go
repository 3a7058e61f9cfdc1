// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package reference

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// writeCommands lists every command that a person may call.
func writeCommands(o Options, m *markdown) error {
	m.title("Command line", "the commands in cmd/egret")
	m.para("`egret help COMMAND` says the same.")
	o.Root.InitDefaultCompletionCmd()
	o.Root.InitDefaultHelpFlag()
	m.heading("Commands")
	m.table([]string{"command", "what it does"}, commandRows(o.Root))
	writeCommand(o.Root, m)
	return nil
}

// each calls f for a command and those below it, in the order of their names.
func each(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			each(sub, f)
		}
	}
}

func commandRows(root *cobra.Command) [][]string {
	var rows [][]string
	each(root, func(c *cobra.Command) {
		if c.Runnable() {
			rows = append(rows, []string{link(c), prose(c.Short)})
		}
	})
	return rows
}

// link leads to a command's heading by GitHub's rules for anchors.
func link(c *cobra.Command) string {
	return "[`" + c.CommandPath() + "`](#" + strings.ReplaceAll(c.CommandPath(), " ", "-") + ")"
}

func writeCommand(root *cobra.Command, m *markdown) {
	each(root, func(c *cobra.Command) {
		m.heading(c.CommandPath())
		c.InitDefaultHelpFlag()
		m.para(prose(c.Short) + ".")
		if c.Runnable() {
			m.code(c.UseLine())
		}
		if c.Long != "" && c.Long != c.Short {
			m.code(c.Long)
		}
		if c.Example != "" {
			m.para("Examples:")
			m.code(c.Example)
		}
		m.flags(c.NonInheritedFlags())
	})
}

func (m *markdown) flags(set *pflag.FlagSet) {
	var rows [][]string
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			name = "`-" + f.Shorthand + "`, " + name
		}
		word, usage := pflag.UnquoteUsage(f)
		rows = append(rows, []string{name, word, mono(shownDefault(f)), prose(usage)})
	})
	if len(rows) > 0 {
		m.table([]string{"flag", "value", "default", "meaning"}, rows)
	}
}

// shownDefault leaves out what goes without saying.
func shownDefault(f *pflag.Flag) string {
	switch f.DefValue {
	case "false", "[]", "0", "0s":
		return ""
	}
	return f.DefValue
}
