// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package integration

import (
	"strings"
	"testing"
)

// Node 20 reads no proxy variable, and neither do the SDKs on it. egret exec says so
// before they run, and what helps; they do not reach the SaaS, since its name resolves
// nowhere, and egret sees nothing of them.
func TestClientsThatGoAround(t *testing.T) {
	e := newWorld(t).start(t, "")
	for name, script := range map[string]string{"fetch": "direct_fetch.mjs", "@slack/web-api": "direct_slack.mjs", "@octokit/rest": "direct_octokit.mjs"} {
		t.Run(strings.ReplaceAll(name, "/", "_"), func(t *testing.T) {
			e.quiet(t)
			c := client{argv: []string{"node", "{dir}/" + script, "{}"}}
			got := e.exec(t, "sidecar", c.command(t, "https://echo.egret.test"))
			if !strings.Contains(got.stderr, "ignores proxy variables") || !strings.Contains(got.stderr, "egret redirect") {
				t.Errorf("egret exec does not name egret redirect (a node that reads proxy variables belongs to TestClients):\n%s", got.stderr)
			}
			if got.code == 0 || len(e.world.arrivals.take()) != 0 || len(e.newRecords(t)) != 0 {
				t.Errorf("exit %d: it did reach something\n%s", got.code, got.all())
			}
			if !strings.Contains(got.all(), "echo.egret.test") {
				t.Errorf("it did not even try\n%s", got.all())
			}
		})
	}
}
