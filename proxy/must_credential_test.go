// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/egret-proxy/egret/audit"
	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/internal/secret"
	"github.com/egret-proxy/egret/policy"
)

// source is a credential source of the test's own.
type source struct {
	next        func() (credential.Credential, error)
	mu          sync.Mutex
	invalidated []string
}

func (s *source) Held(credential.Key, credential.Subject) credential.Credential { return nil }

func (s *source) Credential(context.Context, credential.Key, credential.Subject) (credential.Credential, error) {
	return s.next()
}

func (s *source) Invalidate(_ credential.Key, fingerprint string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.invalidated = append(s.invalidated, fingerprint)
}

// live makes a Bearer credential.
func live(t testing.TB, token string, expires time.Time) credential.Credential {
	in := must(credential.NewInjection(credential.InjectionConfig{Header: "Authorization", Value: "Bearer {token}"}))(t)
	return must(credential.New(credential.Token{Values: map[string]secret.Secret{"token": secret.New(token)}}, []credential.Injection{in}, expires))(t)
}

func TestMUST_C1_WithoutACredentialNothingIsSent(t *testing.T) {
	for name, x := range map[string]struct {
		fail   *credential.Error
		reason string
	}{
		"unreachable":  {&credential.Error{Kind: credential.Unreachable, Err: errors.New("dial 10.0.0.1 secret-word"), RetryAfter: 7 * time.Second}, "provider_unreachable"},
		"refused":      {&credential.Error{Kind: credential.Refused, Err: errors.New("invalid_client secret-word")}, "provider_refused"},
		"not minted":   {&credential.Error{Kind: credential.NotMinted, Err: errors.New("secret-word")}, "not_minted"},
		"unconfigured": {&credential.Error{Kind: credential.Unconfigured, Err: errors.New("secret-word")}, "unconfigured"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.minter.fail.Store(x.fail)
			r := request(t, "GET", "https://"+echoHost+"/", nil)
			r.Header.Set("Authorization", "Bearer "+Placeholder)
			resp := do(t, w.client("sidecar"), r)
			text := body(t, resp)
			if p := problemOf(t, text); resp.StatusCode != 503 || p.Layer != "credential" || p.Reason != x.reason || strings.Contains(text, "secret-word") {
				t.Errorf("%d %s", resp.StatusCode, text)
			}
			if x.fail.RetryAfter > 0 && resp.Header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			if rec := w.recordOf(resp); rec.Verdict != "deny" || rec.Status != 503 {
				t.Errorf("record %+v", rec)
			}
			w.untouched()
		})
	}
}

func TestMUST_C1_AnExpiredCredentialIsNotSent(t *testing.T) {
	src := &source{}
	src.next = func() (credential.Credential, error) { return live(t, "old-token", time.Now().Add(-time.Second)), nil }
	w := newWorld(t, withSource(src))
	resp, text := w.get(w.client("sidecar"), "https://"+echoHost+"/")
	if p := problemOf(t, text); resp.StatusCode != 503 || p.Reason != "expired" {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
	w.untouched()
}

func TestMUST_C7_ARefusedCredentialIsRenewedOnceAndTheRequestRepeatedOnce(t *testing.T) {
	for name, change := range map[string]func(*http.Transport){"h2": func(*http.Transport) {}, "h1": http1} { // a world each: the cache backs off
		w := newWorld(t)
		c := w.client("sidecar", change)
		first, _ := w.get(c, "https://"+echoHost+"/")
		old, mints := w.recordOf(first).Fingerprint, w.minter.mints.Load()
		w.tokens.RevokeAll()
		resp, text := w.get(c, "https://"+echoHost+"/")
		if rep := report(t, text); resp.StatusCode != 200 || rep.Fingerprint == old {
			t.Errorf("%s: %s with %s", name, resp.Status, rep.Fingerprint)
		}
		if rec := w.recordOf(resp); rec.Fingerprint == old || rec.Status != 200 {
			t.Errorf("record %+v", rec)
		}
		if n := w.minter.mints.Load() - mints; n != 1 {
			t.Errorf("%d new tokens", n)
		}
	}
}

func TestMUST_C7_WhatMayNotBeRepeatedIsAnsweredWithTheSaaSsOwnWords(t *testing.T) {
	for name, r := range map[string]func() *http.Request{
		"POST without a body": func() *http.Request { return request(t, "POST", "https://"+echoHost+"/", nil) },
		"PUT with a body":     func() *http.Request { return request(t, "PUT", "https://"+echoHost+"/", strings.NewReader("x")) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c := w.client("sidecar")
			_, _ = w.get(c, "https://"+echoHost+"/")
			w.tokens.RevokeAll()
			resp := do(t, c, r())
			text := body(t, resp)
			if resp.StatusCode != 401 || !strings.Contains(text, "bearer token is required") {
				t.Errorf("%d %q", resp.StatusCode, text)
			}
			if !strings.HasPrefix(resp.Header.Get("Egret-Decision"), "upstream-auth; reason=credential_refused; id=") || resp.Header.Get("Proxy-Status") == "" {
				t.Errorf("header %v", resp.Header)
			}
			if rec := w.recordOf(resp); rec.Layer != "upstream-auth" || rec.Status != 401 || rec.Verdict != "allow" {
				t.Errorf("record %+v", rec)
			}
			if again := do(t, c, r()); again.StatusCode != 200 {
				t.Errorf("the next call: %s", again.Status)
			}
		})
	}
}

func TestMUST_C7_ARefusalThatLastsIsNotTriedForever(t *testing.T) {
	var n atomic.Int64
	src := &source{next: func() (credential.Credential, error) {
		return live(t, "token-"+string(rune('a'+n.Add(1))), time.Time{}), nil
	}}
	w := newWorld(t, withSource(src))
	resp, _ := w.get(w.client("sidecar"), "https://"+echoHost+"/") // the twin knows none of these tokens
	if resp.StatusCode != 401 || n.Load() != 2 || len(src.invalidated) != 2 {
		t.Errorf("%s after %d tokens, %d dropped", resp.Status, n.Load(), len(src.invalidated))
	}
	if rec := w.recordOf(resp); rec.Layer != "upstream-auth" {
		t.Errorf("record %+v", rec)
	}
}

// Slack answers 200 and says in the body that it does not know the token.
func TestMUST_C7_ADestinationSaysHowItRefuses(t *testing.T) {
	var bad atomic.Bool
	refusal := `{"ok":false,"error":"invalid_auth","response_metadata":{"x":"` + strings.Repeat("y", 2000) + `"}}`
	handler := func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/json; charset=utf-8")
		text := `{"ok":true,"error":"none"}`
		if bad.Load() && r.URL.Path != "/fine" {
			text = refusal
		}
		if r.Header.Get("Accept-Encoding") != "gzip" {
			_, _ = io.WriteString(rw, text)
			return
		}
		rw.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(rw)
		_, _ = io.WriteString(z, text)
		_ = z.Close()
	}
	for _, plain := range []bool{false, true} {
		w := newWorld(t, withHandler(handler), func(c *worldConfig) {
			c.refused = &policy.Refused{JSON: map[string][]string{"ok": {"false"}, "error": {"invalid_auth", "token_expired"}}}
		})
		c := w.client("sidecar", func(tr *http.Transport) { tr.DisableCompression = plain })
		bad.Store(false)
		if resp, text := w.get(c, "https://"+otherHost+"/"); resp.StatusCode != 200 || text != `{"ok":true,"error":"none"}` {
			t.Fatalf("healthy: %s %q", resp.Status, text)
		}
		bad.Store(true)
		mints := w.minter.mints.Load()
		resp, text := w.get(c, "https://"+otherHost+"/")
		if text != refusal || w.minter.mints.Load() == mints {
			t.Errorf("plain %v: %d bytes, %d new tokens", plain, len(text), w.minter.mints.Load()-mints)
		}
		if rec := w.recordOf(resp); rec.Layer != "upstream-auth" || rec.Status != 200 {
			t.Errorf("record %+v", rec)
		}
		if resp, _ := w.get(c, "https://"+otherHost+"/fine"); w.recordOf(resp).Reason != "" {
			t.Error("a healthy answer counts as a refusal")
		}
	}
}

// Looking for a refusal must not hold up a stream of JSON.
func TestMUST_C7_LookingAtAnAnswerDoesNotHoldItUp(t *testing.T) {
	next := make(chan struct{})
	w := newWorld(t, withHandler(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/stream+json")
		_, _ = io.WriteString(rw, `{"ok":true}`+"\n")
		_ = http.NewResponseController(rw).Flush()
		select {
		case <-next:
		case <-r.Context().Done():
		}
	}), func(c *worldConfig) { c.refused = &policy.Refused{JSON: map[string][]string{"ok": {"false"}}} })
	both(t, w, func(t *testing.T, c *http.Client) {
		resp := do(t, c, request(t, "GET", "https://"+otherHost+"/", nil))
		buf := make([]byte, 64)
		if n, err := resp.Body.Read(buf); err != nil || !bytes.HasPrefix(buf[:n], []byte(`{"ok":true}`)) {
			t.Errorf("%q %v", buf[:n], err)
		}
		next <- struct{}{}
		_ = resp.Body.Close()
	})
}

func TestMUST_C10_AValueThatIsNoHeaderIsNeverSent(t *testing.T) {
	for _, token := range []string{"a\r\nX-Evil: 1", "a\x00b", "a\nb", ""} {
		w := newWorld(t)
		w.minter.poison.Store(&token)
		resp, text := w.get(w.client("sidecar"), "https://"+echoHost+"/")
		if p := problemOf(t, text); resp.StatusCode != 503 || p.Layer != "credential" {
			t.Errorf("%q: %d %s", token, resp.StatusCode, text)
		}
		w.untouched()
	}
}

func TestMUST_C10_TokensHaveNoShape(t *testing.T) {
	w := newWorld(t)
	token := "ghs_12345_" + strings.Repeat("eyJhbGciOiJSUzI1NiJ9.", 60) + "~+/=="
	w.tokens.Adopt(secret.New(token), []string{"echo"}, time.Hour)
	w.minter.poison.Store(&token)
	if resp, text := w.get(w.client("sidecar"), "https://"+echoHost+"/"); resp.StatusCode != 200 || report(t, text).Fingerprint != secret.New(token).Fingerprint() {
		t.Errorf("%s", resp.Status)
	}
}

// blocked is a sink that takes nothing until it is opened.
type blocked struct{ open chan struct{} }

func (b *blocked) Write(p []byte) (int, error) { <-b.open; return len(p), nil }

func TestMUST_A1_WhatCannotBeRecordedIsNotSent(t *testing.T) {
	sink := &blocked{open: make(chan struct{})}
	w := newWorld(t, func(c *worldConfig) {
		c.audit = func(o *audit.Options) { o.Writer, o.Queue = audit.NewStream(sink), 4 }
	})
	defer close(sink.open)
	both(t, w, func(t *testing.T, c *http.Client) {
		var last *http.Response
		var text string
		for range 8 {
			last, text = w.get(c, "https://"+echoHost+"/")
		}
		if p := problemOf(t, text); last.StatusCode != 503 || p.Reason != "audit_backlog" {
			t.Errorf("%d %s", last.StatusCode, text)
		}
	})
	if n := len(w.echo.Reports()); n > 4 {
		t.Errorf("%d requests were sent with places for 4", n)
	}
	if conn, head := w.connect("sidecar", pinHost+":443", ""); !strings.HasPrefix(head, "HTTP/1.1 503") {
		t.Errorf("a tunnel: %.60q", head)
		_ = conn.Close()
	}
}

func TestMUST_K3_NoLeafForWhatIsNotListed(t *testing.T) {
	w := newWorld(t)
	if _, head := w.connect("sidecar", "unlisted.example:443", ""); !strings.HasPrefix(head, "HTTP/1.1 403 egret target/unlisted_host id=") {
		t.Errorf("answer %q", head)
	}
	tc := w.inside(echoHost+":443", echoHost)
	leaf := tc.ConnectionState().PeerCertificates[0]
	if len(leaf.DNSNames) != 1 || leaf.DNSNames[0] != echoHost || len(leaf.IPAddresses) != 0 {
		t.Errorf("the leaf names %v %v", leaf.DNSNames, leaf.IPAddresses)
	}
}

func TestMUST_K4_TheInterceptionCAIsNotTrustedUpstream(t *testing.T) {
	w := newWorld(t)
	cert := must(w.srv.deps.Leaves.Leaf(t.Context(), echoHost))(t)
	w.dialTo(echoHost, w.listenWith(cert, []string{"h2", "http/1.1"}, answerAll(func(*http.Request) bool {
		t.Error("a request was sent")
		return false
	})))
	resp, text := w.get(w.client("sidecar"), "https://"+echoHost+"/")
	if p := problemOf(t, text); resp.StatusCode != 502 || p.Reason != "tls_unverified" {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
}

func TestMUST_P2_NothingOfEgretIsReachedThroughIt(t *testing.T) {
	w := newWorld(t)
	for _, line := range []string{"GET /metrics", "GET /", "GET http://" + w.addr["sidecar"] + "/metrics", "GET http://egret/", "POST http://127.0.0.1:8633/metrics", "OPTIONS *"} {
		conn := w.dialEntrance("sidecar")
		_, _ = io.WriteString(conn, line+" HTTP/1.1\r\nHost: x\r\n\r\n")
		answer, _ := io.ReadAll(conn)
		if !strings.HasPrefix(string(answer), "HTTP/1.1 40") || !strings.Contains(string(answer), "egret.dev/reasons/") {
			t.Errorf("%s: %.80q", line, answer)
		}
	}
}

func TestMUST_P3_NoPolicyDeniesEverything(t *testing.T) {
	w := newWorld(t)
	for name, p := range map[string]*policy.Policy{"zero": {}, "nil": nil, "empty": policy.New(policy.Set{})} {
		w.policy.Store(p)
		if _, head := w.connect("sidecar", echoHost+":443", ""); !strings.HasPrefix(head, "HTTP/1.1 503") && !strings.HasPrefix(head, "HTTP/1.1 403") {
			t.Errorf("%s: %.60q", name, head)
		}
	}
	w.reload(func(*policy.Set) {})
	c := w.client("sidecar")
	_, _ = w.get(c, "https://"+echoHost+"/")
	w.policy.Store(nil)
	if resp, text := w.get(c, "https://"+echoHost+"/"); resp.StatusCode != 503 || problemOf(t, text).Reason != "not_loaded" {
		t.Errorf("inside: %d %s", resp.StatusCode, text)
	}
}
