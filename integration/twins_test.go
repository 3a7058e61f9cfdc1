// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package integration

import (
	"encoding/json"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/egret-proxy/egret/internal/saas"
	"github.com/egret-proxy/egret/internal/secret"
)

// arrival is one request that reached a twin.
type arrival struct {
	Host, Method, Path, Proto string
	Ours                      bool // it carried the credential that egret holds
}

// arrivals notes what reaches the twins.
type arrivals struct {
	mu   sync.Mutex
	list []arrival
}

// take returns what has arrived since the last time.
func (a *arrivals) take() []arrival {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := a.list
	a.list = nil
	return list
}

// noting is a twin whose visitors are noted.
func (a *arrivals) noting(key secret.Secret, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := arrival{Host: r.Host, Method: r.Method, Path: r.URL.Path, Proto: r.Proto, Ours: carries(r, key)}
		a.mu.Lock()
		a.list = append(a.list, got)
		a.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

func carries(r *http.Request, key secret.Secret) bool {
	_, password, _ := r.BasicAuth()
	sent := []string{password, r.Header.Get("Token"), strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")}
	return slices.Contains(sent, key.Reveal())
}

// startTwins serves the SaaS on one loopback port. Every token is known to its twin and
// to egret only.
func (w *world) startTwins(t *testing.T) {
	t.Helper()
	tokens := saas.NewIssuer(nil)
	for _, name := range []string{"slack-bot", "qase-key", "github-token", "echo-token"} {
		w.keys[name] = tokens.Issue([]string{"chat:write", saas.QaseRead}, 0)
	}
	w.arrivals = &arrivals{}
	slack := saas.NewSlack(saas.SlackConfig{Tokens: tokens, Channels: []saas.Channel{{ID: "C0QA000001", Name: "qa"}}})
	echo := saas.NewEcho(saas.EchoConfig{Tokens: tokens})
	ca, err := saas.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	twin := func(host, key string, h http.Handler) saas.Host {
		return saas.Host{Name: host, Handler: w.arrivals.noting(w.keys[key], h)}
	}
	w.twins, err = saas.Listen(ca,
		twin("slack.com", "slack-bot", slack),
		twin("api.qase.io", "qase-key", saas.NewQase(saas.QaseConfig{Tokens: tokens})),
		twin("github.com", "github-token", w.gitHost(t)),
		twin("api.github.com", "github-token", gitHubAPI(tokens)),
		twin("s3.amazonaws.com", "echo-token", echo),
		twin("echo.egret.test", "echo-token", echo),
		twin("corporate.egret.test", "echo-token", echo))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.twins.Close() })
	w.write(t, "twins.pem", ca.PEM())
	listener, err := ca.Certificate("localhost")
	if err != nil {
		t.Fatal(err)
	}
	w.writePair(t, "listener", listener)
}

// gitHost is git's own server over HTTP, with one repository of the organisation acme
// and one of another, for those who send the token as GitHub wants it.
func (w *world) gitHost(t *testing.T) http.Handler {
	t.Helper()
	root := w.file("repositories")
	for _, name := range []string{"acme/app.git", "other/app.git"} {
		makeRepository(t, filepath.Join(root, name))
	}
	core, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(core)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=x-access-token", "HOME=" + os.Getenv("HOME")},
	}
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if user, _, _ := r.BasicAuth(); user != "x-access-token" || !carries(r, w.keys["github-token"]) {
			rw.Header().Set("WWW-Authenticate", `Basic realm="GitHub"`)
			http.Error(rw, "Bad credentials", http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(rw, r)
	})
}

// makeRepository makes a bare repository with one commit, in which README says hello.
func makeRepository(t *testing.T, path string) {
	t.Helper()
	script := `git init -q --bare -b main "$0" && git -C "$0" config http.receivepack true &&
		work=$(mktemp -d) && git clone -q "$0" "$work" 2>/dev/null && cd "$work" && echo "hello from the repository" >README && git add README &&
		git -c user.name=twin -c user.email=twin@egret.test commit -q -m first && git push -q origin HEAD:main; rm -rf "$work"`
	if out, err := exec.Command("sh", "-c", script, path).CombinedOutput(); err != nil {
		t.Fatalf("make a repository: %v\n%s", err, out)
	}
}

// gitHubAPI is the part of api.github.com that gh needs here. A token that is not known
// is refused in GitHub's words.
func gitHubAPI(tokens saas.Tokens) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, body := http.StatusOK, map[string]any{"login": "acme-bot", "id": 1, "type": "Bot"}
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if _, state := tokens.Valid(token); !ok || state != saas.TokenLive {
			status, body = http.StatusUnauthorized, map[string]any{"message": "Bad credentials"}
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body) // a client that has gone is not the twin's concern
	})
}
