// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package saas

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/egret-proxy/egret/internal/secret"
)

type slackFixture struct {
	*Slack
	tokens *Issuer
	clock  *clock
	token  secret.Secret
}

func newSlackFixture() slackFixture {
	c := newClock()
	tokens := NewIssuer(c.now)
	s := NewSlack(SlackConfig{Tokens: tokens, Now: c.now, Channels: []Channel{
		{ID: "C0QA000001", Name: "qa"}, {ID: "C0OLD00001", Name: "old", Archived: true}, {ID: "C0SEC00001", Name: "secret", Left: true},
	}})
	return slackFixture{s, tokens, c, tokens.Issue([]string{"chat:write"}, time.Hour)}
}

const (
	jsonType = "Content-Type: application/json; charset=utf-8"
	formType = "Content-Type: application/x-www-form-urlencoded"
)

func TestSlackRefuses(t *testing.T) {
	f := newSlackFixture()
	auth := "Authorization: Bearer " + f.token.Reveal()
	reader := f.tokens.Issue([]string{"channels:read"}, time.Hour)
	good := `{"channel":"#qa","text":"hello"}`
	for _, tc := range []struct {
		name, line, body string
		header           []string
		want             string
	}{
		{"no token", "POST /api/chat.postMessage", good, []string{jsonType}, "not_authed"},
		{"another scheme", "POST /api/auth.test", "", []string{"Authorization: Basic eDp5"}, "not_authed"},
		{"unknown token", "POST /api/auth.test", "", []string{"Authorization: Bearer xoxb-nobody"}, "invalid_auth"},
		{"token in the query", "GET /api/auth.test?token=" + f.token.Reveal(), "", nil, "not_authed"},
		{"token in JSON", "POST /api/auth.test", `{"token":"` + f.token.Reveal() + `"}`, []string{jsonType}, "not_authed"},
		{"unknown method", "POST /api/chat.postMassage", good, []string{auth, jsonType}, "unknown_method"},
		{"scope", "POST /api/chat.postMessage", good, []string{"Authorization: Bearer " + reader.Reveal(), jsonType}, "missing_scope"},
		{"broken JSON", "POST /api/chat.postMessage", `{"channel":`, []string{auth, jsonType}, "invalid_json"},
		{"JSON list", "POST /api/chat.postMessage", `[]`, []string{auth, jsonType}, "json_not_object"},
		{"JSON null", "POST /api/chat.postMessage", `null`, []string{auth, jsonType}, "json_not_object"},
		{"broken form", "POST /api/chat.postMessage", `channel=%zz`, []string{auth, formType}, "invalid_form_data"},
		{"no type", "POST /api/chat.postMessage", good, []string{auth}, "missing_post_type"},
		{"odd type", "POST /api/chat.postMessage", good, []string{auth, "Content-Type: text/csv"}, "invalid_post_type"},
		{"odd charset", "POST /api/chat.postMessage", good, []string{auth, "Content-Type: application/json; charset=utf-16"}, "invalid_charset"},
		{"no channel", "POST /api/chat.postMessage", `{"text":"x"}`, []string{auth, jsonType}, "invalid_arguments"},
		{"other channel", "POST /api/chat.postMessage", `{"channel":"C1","text":"x"}`, []string{auth, jsonType}, "channel_not_found"},
		{"archived", "POST /api/chat.postMessage", `{"channel":"old","text":"x"}`, []string{auth, jsonType}, "is_archived"},
		{"not a member", "POST /api/chat.postMessage", `{"channel":"secret","text":"x"}`, []string{auth, jsonType}, "not_in_channel"},
		{"no text", "POST /api/chat.postMessage", `{"channel":"qa"}`, []string{auth, jsonType}, "no_text"},
		{"long text", "POST /api/chat.postMessage", `{"channel":"qa","text":"` + strings.Repeat("x", slackTextLimit+1) + `"}`, []string{auth, jsonType}, "msg_too_long"},
		{"huge body", "POST /api/chat.postMessage", strings.Repeat(" ", maxSlackBody+1), []string{auth, jsonType}, "request_timeout"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			resp := do(t, f, tc.line, tc.body, tc.header...)
			got := decode(t, resp)
			if resp.StatusCode != http.StatusOK || got["ok"] != false || got["error"] != tc.want {
				t.Errorf("got %d %v, want 200 and error %q", resp.StatusCode, got, tc.want)
			}
			if ct := resp.Header.Get("Content-Type"); ct != "application/json; charset=utf-8" {
				t.Errorf("Content-Type is %q", ct)
			}
			if resp.Header.Get("X-Slack-Req-Id") == "" {
				t.Error("no X-Slack-Req-Id")
			}
		})
	}
	if n := len(f.Messages()); n != 0 {
		t.Errorf("%d messages were posted by refused calls", n)
	}
}

func TestSlackMissingScopeSaysWhich(t *testing.T) {
	f := newSlackFixture()
	reader := f.tokens.Issue([]string{"channels:read", "users:read"}, time.Hour)
	resp := do(t, f, "POST /api/chat.postMessage", "channel=qa&text=x", formType, "Authorization: Bearer "+reader.Reveal())
	want := map[string]any{"ok": false, "error": "missing_scope", "needed": "chat:write", "provided": "channels:read,users:read"}
	if d := cmp.Diff(want, decode(t, resp)); d != "" {
		t.Error(d)
	}
	if got := resp.Header.Get("X-OAuth-Scopes"); got != "channels:read,users:read" {
		t.Errorf("X-OAuth-Scopes is %q", got)
	}
	if got := resp.Header.Get("X-Accepted-OAuth-Scopes"); got != "chat:write" {
		t.Errorf("X-Accepted-OAuth-Scopes is %q", got)
	}
}

func TestSlackTokenEnds(t *testing.T) {
	f := newSlackFixture()
	auth := "Authorization: Bearer " + f.token.Reveal()
	if got := decode(t, do(t, f, "GET /api/auth.test", "", auth)); got["ok"] != true || got["team"] != "Acme" {
		t.Fatalf("live token: %v", got)
	}
	f.clock.at = f.clock.at.Add(time.Hour)
	if got := decode(t, do(t, f, "GET /api/auth.test", "", auth)); got["error"] != "token_expired" {
		t.Errorf("expired token: %v", got)
	}
	f.tokens.Revoke(f.token)
	if got := decode(t, do(t, f, "GET /api/auth.test", "", auth)); got["error"] != "token_revoked" {
		t.Errorf("revoked token: %v", got)
	}
}

func TestSlackPosts(t *testing.T) {
	f := newSlackFixture()
	auth := "Authorization: Bearer " + f.token.Reveal()
	answer := decode(t, do(t, f, "POST /api/chat.postMessage", `{"channel":"#qa","text":"one"}`, jsonType, auth))
	if answer["ok"] != true || answer["channel"] != "C0QA000001" || answer["warning"] != nil {
		t.Errorf("JSON: %v", answer)
	}
	do(t, f, "POST /api/chat.postMessage", "channel=C0QA000001&text=two&token="+f.token.Reveal(), formType)
	do(t, f, "POST /api/chat.postMessage", `{"channel":"qa","blocks":[{"type":"divider"}]}`, jsonType, auth)
	var texts []string
	for _, m := range f.Messages() {
		texts = append(texts, m.Text)
		if m.Channel != "C0QA000001" || m.Fingerprint != f.token.Fingerprint() {
			t.Errorf("message %+v", m)
		}
	}
	if d := cmp.Diff([]string{"one", "two", ""}, texts); d != "" {
		t.Error(d)
	}
	if ts := f.Messages(); ts[0].TS == ts[1].TS {
		t.Error("two messages have one time stamp")
	}
}

func TestSlackWarnsOfMissingCharset(t *testing.T) {
	f := newSlackFixture()
	got := decode(t, do(t, f, "POST /api/chat.postMessage", `{"channel":"qa","text":"x"}`,
		"Content-Type: application/json", "Authorization: Bearer "+f.token.Reveal()))
	if got["ok"] != true || got["warning"] != "missing_charset" {
		t.Errorf("got %v", got)
	}
}

func TestSlackRateLimit(t *testing.T) {
	f := newSlackFixture()
	f.LimitNext(1, 30*time.Second)
	auth := "Authorization: Bearer " + f.token.Reveal()
	resp := do(t, f, "POST /api/auth.test", "", auth)
	if got := decode(t, resp); resp.StatusCode != http.StatusTooManyRequests || got["error"] != "ratelimited" {
		t.Errorf("got %d %v", resp.StatusCode, got)
	}
	if got := resp.Header.Get("Retry-After"); got != "30" {
		t.Errorf("Retry-After is %q", got)
	}
	if resp := do(t, f, "POST /api/auth.test", "", auth); resp.StatusCode != http.StatusOK {
		t.Errorf("the next call got %d", resp.StatusCode)
	}
}

func TestSlackRecordsFingerprintsOnly(t *testing.T) {
	f := newSlackFixture()
	do(t, f, "POST /api/auth.test", "", "Authorization: Bearer "+f.token.Reveal())
	do(t, f, "POST /api/auth.test", "token="+f.token.Reveal(), formType)
	do(t, f, "POST /api/auth.test", "token=theirs", formType, "Authorization: Bearer "+f.token.Reveal())
	do(t, f, "POST /api/auth.test", "")
	fp := f.token.Fingerprint()
	want := []SlackCall{
		{Method: "auth.test", Fingerprint: fp, Where: "header"},
		{Method: "auth.test", Fingerprint: fp, Where: "form", FormToken: true},
		{Method: "auth.test", Fingerprint: fp, Where: "header", FormToken: true},
		{Method: "auth.test", Error: "not_authed"},
	}
	if d := cmp.Diff(want, f.Calls()); d != "" {
		t.Error(d)
	}
	for _, c := range f.Calls() {
		if slices.Contains([]string{c.Fingerprint, c.Error, c.Where}, f.token.Reveal()) {
			t.Errorf("a record holds the token: %+v", c)
		}
	}
}

func TestSlackElsewhereIsNotFound(t *testing.T) {
	f := newSlackFixture()
	for _, path := range []string{"/", "/api", "/api/", "/apis/auth.test"} {
		if resp := do(t, f, "GET "+path, ""); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: got %d", path, resp.StatusCode)
		}
	}
}

func TestOutageUnavailable(t *testing.T) {
	f := newSlackFixture()
	f.SetOutage(Unavailable)
	resp := do(t, f, "POST /api/auth.test", "")
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("got %d %v", resp.StatusCode, resp.Header)
	}
	f.SetOutage(Up)
	if resp := do(t, f, "POST /api/auth.test", ""); resp.StatusCode != http.StatusOK {
		t.Errorf("after the outage: %d", resp.StatusCode)
	}
}

func FuzzSlackRequest(f *testing.F) {
	f.Add("application/json", `{"channel":"qa","text":"x","token":"t"}`)
	f.Add("application/x-www-form-urlencoded", "token=t&channel=qa")
	f.Add("multipart/form-data; boundary=x", "--x--")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, contentType, body string) {
		r := &slackRequest{args: map[string]string{}}
		r.readBody(contentType, []byte(body))
		r.readToken("")
		if _, kept := r.args["token"]; kept {
			t.Error("the token stays among the arguments")
		}
		if r.token != "" && !r.formToken {
			t.Error("a token came from somewhere else than a form")
		}
	})
}
