// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package job

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/egret-proxy/egret/internal/saas"
	"github.com/egret-proxy/egret/internal/secret"
)

// TestMain turns the test binary into the program itself when it is asked to.
func TestMain(m *testing.M) {
	if os.Getenv("RUN_DASHBOARD") != "" {
		if err := Report(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "dashboard:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// world is the twins, reached through a forward proxy as the program would reach egret.
type world struct {
	slack  *saas.Slack
	tokens *saas.Issuer
	proxy  *httptest.Server
	roots  string
	key    secret.Secret // of Qase
	bot    secret.Secret // of Slack
}

func newWorld(t *testing.T) *world {
	t.Helper()
	tokens := saas.NewIssuer(nil)
	w := &world{tokens: tokens, roots: filepath.Join(t.TempDir(), "roots.pem")}
	w.key, w.bot = tokens.Issue([]string{saas.QaseRead}, time.Hour), tokens.Issue([]string{"chat:write"}, time.Hour)
	w.slack = saas.NewSlack(saas.SlackConfig{Tokens: tokens, Channels: []saas.Channel{{ID: "C0QA000001", Name: "qa"}}})
	ca, err := saas.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	s, err := saas.Listen(ca,
		saas.Host{Name: "api.qase.io", Handler: inject("Token", func() string { return w.key.Reveal() }, saas.NewQase(saas.QaseConfig{Tokens: tokens}))},
		saas.Host{Name: "slack.com", Handler: inject("Authorization", func() string { return "Bearer " + w.bot.Reveal() }, w.slack)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := os.WriteFile(w.roots, ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	w.proxy = httptest.NewServer(connect(s.Addr()))
	t.Cleanup(w.proxy.Close)
	return w
}

// inject stands for egret: the program's own requests must carry no credential.
func inject(name string, value func() string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || r.Header.Get("Token") != "" {
			http.Error(w, "the program sent a credential", http.StatusTeapot)
			return
		}
		r.Header.Set(name, value())
		next.ServeHTTP(w, r)
	})
}

// connect is a forward proxy to one address.
func connect(addr string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			http.Error(w, "CONNECT only", http.StatusMethodNotAllowed)
			return
		}
		up, err := net.Dial("tcp", addr)
		if err != nil {
			http.Error(w, "no upstream", http.StatusBadGateway)
			return
		}
		defer up.Close()
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
		go func() { _, _ = io.Copy(up, conn); _ = up.Close() }()
		_, _ = io.Copy(conn, up)
	})
}

// run starts the program with nothing in its environment but the two variables.
func (w *world) run(t *testing.T) (out string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = []string{"RUN_DASHBOARD=1", "HTTPS_PROXY=" + w.proxy.URL, "SSL_CERT_FILE=" + w.roots, "SSL_CERT_DIR=/nonexistent"}
	b, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

func TestDashboardPosts(t *testing.T) {
	w := newWorld(t)
	out, code := w.run(t)
	if code != 0 {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	posted := w.slack.Messages()
	if len(posted) != 1 || !strings.HasSuffix(posted[0].Text, "33 passed, 2 failed, 3 flaky, 2 skipped") {
		t.Errorf("posted %+v", posted)
	}
	if !strings.Contains(out, "posted to Slack: #qa") {
		t.Errorf("output:\n%s", out)
	}
}

func TestDashboardSaysThatSlackRefused(t *testing.T) {
	w := newWorld(t)
	w.tokens.Revoke(w.bot)
	if out, code := w.run(t); code != 1 || !strings.Contains(out, "slack refused the message: token_revoked") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}

func TestDashboardSaysThatQaseRefused(t *testing.T) {
	w := newWorld(t)
	w.tokens.Revoke(w.key)
	out, code := w.run(t)
	if code != 1 || !strings.Contains(out, "401 Unauthorized") || strings.Contains(out, "about access") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}

func TestRefusalOfEgretIsAboutAccess(t *testing.T) {
	r := httptest.NewRequest("POST", "https://api.qase.io/v1/run/WEB", nil)
	resp := &http.Response{Status: "403 Forbidden", Header: http.Header{"Egret-Decision": {"policy; reason=method_not_allowed; id=01"}}}
	got := refusal(r, resp, []byte(`{"title":"not allowed"}`+"\n")).Error()
	want := "POST https://api.qase.io/v1/run/WEB: 403 Forbidden\n" +
		"  this is about access, not about code: policy; reason=method_not_allowed; id=01\n" +
		`  {"title":"not allowed"}`
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestRefusalNamesWhomItConcerns(t *testing.T) {
	for decision, want := range map[string]string{
		"identity; reason=no_svid; id=01":                "about access",
		"policy; reason=revoked; id=01":                  "about access",
		"target; reason=not_listed; id=01":               "about access",
		"credential; reason=provider_unreachable; id=01": "about access",
		"upstream; reason=dns; id=01":                    "about the network or the service, not",
		"upstream-auth; reason=credential_refused; id=1": "about the network or the service, not",
		"proxy; reason=drain; id=01":                     "the proxy says: proxy; reason=drain",
	} {
		r := httptest.NewRequest("GET", "https://api.qase.io/v1/project", nil)
		resp := &http.Response{Status: "502 Bad Gateway", Header: http.Header{"Egret-Decision": {decision}}}
		got := refusal(r, resp, nil).Error()
		if !strings.Contains(got, want) || strings.Contains(got, "about access") != (want == "about access") {
			t.Errorf("%s: %s", decision, got)
		}
	}
}

func TestCount(t *testing.T) {
	for name, tc := range map[string]struct {
		attempts map[int][]string
		want     summary
	}{
		"nothing":              {nil, summary{}},
		"passed":               {map[int][]string{1: {"passed"}}, summary{passed: 1}},
		"passed twice":         {map[int][]string{1: {"passed", "passed"}}, summary{passed: 1}},
		"failed":               {map[int][]string{1: {"failed"}}, summary{failed: 1}},
		"failed, then passed":  {map[int][]string{1: {"failed", "passed"}}, summary{flaky: 1}},
		"passed, then failed":  {map[int][]string{1: {"passed", "failed"}}, summary{failed: 1}},
		"skipped, then passed": {map[int][]string{1: {"skipped", "passed"}}, summary{passed: 1}},
		"blocked":              {map[int][]string{1: {"blocked"}}, summary{skipped: 1}},
	} {
		if got := count(tc.attempts); got != tc.want {
			t.Errorf("%s: got %+v, want %+v", name, got, tc.want)
		}
	}
}
