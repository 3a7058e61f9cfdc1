// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/egret-proxy/egret/internal/ops"
)

// version and commit are set by the linker in releases (see Makefile); a plain `go
// build` knows at least its commit from the build information.
var (
	version = "dev"
	commit  = "" //nolint:gochecknoglobals // set by the linker
)

func buildVersion() ops.Version {
	v := ops.Version{Version: version, Commit: commit, Go: runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok && v.Commit == "" {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				v.Commit = s.Value
			case "vcs.time":
				v.Date = s.Value
			}
		}
	}
	return v
}

// versionLine is what egret version prints.
func versionLine() string {
	v := buildVersion()
	return fmt.Sprintf("egret %s (%s, %s, %s/%s)", v.Version, orNone(short(v.Commit)), v.Go, runtime.GOOS, runtime.GOARCH)
}

func newVersionCommand() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print version and commit",
		Example: "  egret version\n  egret version -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out.json() {
				return out.write(cmd.OutOrStdout(), buildVersion())
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), versionLine())
			return err
		},
	}
	out.flag(cmd)
	return cmd
}

func short(commit string) string {
	if len(commit) > 12 {
		return commit[:12]
	}
	return commit
}

func orNone(s string) string {
	if s == "" {
		return "commit unknown"
	}
	return s
}
