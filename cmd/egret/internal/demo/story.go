// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/egret-proxy/egret/audit"
)

// world says where the secrets are, and where they are not.
func (d *Demo) world(context.Context) {
	d.say.chapter("Who holds what")
	d.say.fact("the job", "no token, key or password, and no SVID that it would have to look after")
	d.say.fact("egret", "one static key, of Qase (a file that only egret reads)")
	d.say.fact("", "for Slack nothing at all: it logs in with the workload's own JWT-SVID")
	d.say.fact("who calls", "%s", d.callers)
	d.say.fact("policy", "written by teams, reviewed in git; every grant has an owner and an end")
}

// job runs the nightly job as a process of its own and shows that it holds no secret.
func (d *Demo) job(ctx context.Context) {
	d.say.chapter("The nightly job runs")
	env := []string{"HTTPS_PROXY=http://" + d.node.local, "SSL_CERT_FILE=" + d.node.bundle}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, d.opt.Job[0], d.opt.Job[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, &out, &out
	before := len(d.records())
	err := cmd.Run()
	d.say.fact("command", "%s", strings.Join(append([]string{filepath.Base(cmd.Args[0])}, cmd.Args[1:]...), " "))
	for i, v := range env {
		name := ""
		if i == 0 {
			name = "environment"
		}
		d.say.fact(name, "%s", v)
	}
	d.say.quote(out.String())
	d.say.check(err == nil, "the job succeeded")
	d.say.check(!d.holdsSecret(append(slices.Clone(cmd.Args), env...), out.String()), "no secret in its arguments, its environment or its output")
	d.decisions(ctx, before)
	d.sawBySaaS()
}

// holdsSecret looks for every secret of the story.
func (d *Demo) holdsSecret(words []string, output string) bool {
	text := strings.Join(append(words, output), "\n")
	return strings.Contains(text, d.saas.key.Reveal()) || strings.Contains(text, "eyJ") // no key, no JWT
}

// decisions tells what egret wrote down of the job's requests.
func (d *Demo) decisions(ctx context.Context, before int) {
	recs := d.waitRecords(ctx, before+2)
	if len(recs) <= before {
		d.say.check(false, "the job's requests were recorded")
		return
	}
	d.say.line("")
	shown := map[string]bool{}
	for _, r := range recs[before:] {
		if shown[r.Policy+r.PathTemplate] {
			continue
		}
		shown[r.Policy+r.PathTemplate] = true
		d.say.fact(r.Host, "%s %s %d, by policy %s of %s", r.Method, r.PathTemplate, r.Status, r.Policy, r.Owner)
		d.say.fact("", "credential %s %s, %s", r.Credential, r.Fingerprint, d.life(r.Fingerprint))
	}
	d.say.check(allAllowed(recs[before:]), "every request is credited to %s, allowed by a named policy", dashboardID)
}

func allAllowed(recs []audit.Record) bool {
	for _, r := range recs {
		if r.Verdict != "allow" || r.Workload != dashboardID || r.Policy == "" || r.Owner == "" || r.Fingerprint == "" {
			return false
		}
	}
	return len(recs) > 0
}

// life tells how long a credential will still be used.
func (d *Demo) life(fingerprint string) string {
	for _, e := range d.node.Credentials() {
		if e.Fingerprint == fingerprint {
			return "valid for another " + e.Remaining.Round(time.Second).String()
		}
	}
	return "not cached any more"
}

func (d *Demo) sawBySaaS() {
	msgs := d.saas.slack.Messages()
	d.say.check(len(msgs) == 1, "Slack accepted the token and has the message")
	if len(msgs) > 0 {
		d.say.fact("", "%s", msgs[len(msgs)-1].Text)
	}
	d.say.check(len(d.saas.oauth.Logins()) == 1, "the token endpoint saw one login, by the workload's own JWT-SVID")
}

// refusals are what must not work, each with what the application receives.
func (d *Demo) refusals(ctx context.Context) {
	d.say.chapter("Another workload tries the same")
	d.refused(ctx, attempt{as: agentID, method: http.MethodGet, url: "https://api.qase.io/v1/project", want: "policy/no_policy", status: 403})

	d.say.chapter("The job asks for what it was not granted")
	d.refused(ctx, attempt{as: dashboardID, method: http.MethodPost, url: "https://api.qase.io/v1/run/WEB", body: `{"title":"x"}`, want: "policy/method_not_allowed", status: 403})
	d.say.check(d.saas.qase.Runs() == 3, "Qase still has three runs")

	d.say.chapter("The job forges the Host header inside its tunnel to Slack")
	d.refused(ctx, attempt{as: dashboardID, method: http.MethodGet, url: "https://slack.com/api/auth.test", host: "attacker.example", want: "target/authority_mismatch", status: 421})

	d.say.chapter("A workload comes back whose grant has ended")
	d.refused(ctx, attempt{as: reportID, method: http.MethodGet, url: "https://api.qase.io/v1/run/WEB", want: "policy/expired", status: 403})

	d.say.chapter("The issuer of a credential is down")
	d.refused(ctx, attempt{as: dashboardID, method: http.MethodGet, url: "https://api.pagerduty.com/oncalls", want: "credential/provider_unreachable", status: 503})
	d.say.check(len(d.saas.pager.Reports()) == 0, "PagerDuty was never called: no credential, no request")
}

// revocation takes the token away at the SaaS, while egret still believes in it.
func (d *Demo) revocation(ctx context.Context) {
	d.say.chapter("Somebody revokes the Slack token")
	d.saas.bots.RevokeAll()
	c := d.localClient()
	first, err := d.call(ctx, c, attempt{method: http.MethodPost, url: "https://slack.com/api/auth.test"})
	if err != nil {
		d.say.check(false, "the first call: %v", err)
		return
	}
	d.say.fact("first call", "%d %s", first.status, strings.TrimSpace(first.body))
	d.say.fact("", "Egret-Decision: %s", first.decision)
	d.say.check(strings.HasPrefix(first.decision, "upstream-auth;"), "the app is told: the SaaS refused the credential, your code is not at fault")
	second, err := d.call(ctx, c, attempt{method: http.MethodPost, url: "https://slack.com/api/auth.test"})
	d.say.check(err == nil && strings.Contains(second.body, `"ok":true`), "the next call has a fresh token, and works")
	d.say.check(len(d.saas.oauth.Logins()) == 2, "one new login at the token endpoint, no storm")
}

// waitRecords waits until at least n records are written.
func (d *Demo) waitRecords(ctx context.Context, n int) []audit.Record {
	var recs []audit.Record
	for range 100 {
		if recs = d.records(); len(recs) >= n || ctx.Err() != nil {
			break
		}
		time.Sleep(10 * time.Millisecond) //nolint:forbidigo // polls a file, at most a second
	}
	time.Sleep(20 * time.Millisecond) //nolint:forbidigo // the last of a batch
	return d.records()
}

// Keep waits until ctx ends, with lines that work when they are copied. It fails where
// egret ends by itself.
func (d *Demo) Keep(ctx context.Context) error {
	settings := filepath.Join(d.dir, "egret.yaml")
	d.say.line("")
	d.say.line("egret is running; Ctrl-C ends it and removes everything.")
	for _, try := range [][2]string{
		{"call as the nightly job, without a token", "curl -x http://" + d.node.local + " --cacert " + d.node.bundle + " https://api.qase.io/v1/project"},
		{"what it may not do, and why", "curl -x http://" + d.node.local + " --cacert " + d.node.bundle + " -d '{}' https://api.qase.io/v1/run/WEB"},
		{"what was decided (the id is in the answer)", d.self() + " why -c " + settings + " ID"},
		{"which rule decides, before anybody asks", d.self() + " why -c " + settings + " --as " + dashboardID + " GET https://api.qase.io/v1/project"},
		{"who a program of yours would be, and why", d.self() + " doctor -c " + settings + " --pid $$"},
		{"change the policy under it", "${EDITOR:-vi} " + filepath.Join(d.dir, "policy", "teams", "qa", "access.yaml")},
		{"every record", "tail -f " + d.node.audit},
	} {
		d.say.line("")
		d.say.line(d.say.paint(faint, "# "+try[0]))
		d.say.line(try[1])
	}
	select {
	case <-ctx.Done():
		return nil
	case <-d.node.Done():
		return d.node.Stop()
	}
}

func (d *Demo) self() string {
	if exe, err := os.Executable(); err == nil {
		return exe
	}
	return "egret"
}
