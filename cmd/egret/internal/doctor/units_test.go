// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// unit reads the settings of a systemd unit.
func unit(t *testing.T, name string) []string {
	t.Helper()
	text, err := os.ReadFile("../../../../deploy/systemd/" + name)
	check(t, err)
	var out []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			out = append(out, line)
		}
	}
	return out
}

// TestUnitsLetProcessListenersWork: what doctor's hints send people to is there, and says
// what process listeners need. A filter that kills for open_by_handle_at(2) would end
// egret with its first local caller.
func TestUnitsLetProcessListenersWork(t *testing.T) {
	t.Parallel()
	for file, want := range map[string][]string{
		"process.conf":  {"[Service]", "ProtectProc=default", "ProcSubset=all"},
		"egret.service": {"SystemCallFilter=~@privileged", "SystemCallErrorNumber=EPERM", "CapabilityBoundingSet=", "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK"},
	} {
		have := unit(t, file)
		for _, line := range want {
			if !slices.Contains(have, line) {
				t.Errorf("deploy/systemd/%s has no %q", file, line)
			}
		}
	}
}
