// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package slack

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/egret-proxy/egret/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	clientID     = "123.456"
	clientSecret = "hush+secret&="
	first        = "xoxe-1-0"
)

// twin is oauth.v2.access of one installation. A refresh token works once; one that is
// used again is taken for stolen, and ends the whole installation.
type twin struct {
	life time.Duration

	mu      sync.Mutex
	refresh string
	valid   map[string]time.Time // access tokens by their end
	seen    map[string]bool
	n       int
	reused  int
	bad     []string
	revoked bool
	after   func() // called after a pair was made, before it is sent
}

func newTwin(life time.Duration) *twin {
	return &twin{life: life, refresh: first, valid: map[string]time.Time{}, seen: map[string]bool{}}
}

func (s *twin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	o := s.answer(r)
	after := s.after
	s.mu.Unlock()
	if after != nil && o["ok"] == true {
		after()
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = json.NewEncoder(w).Encode(o)
}

func no(code string) map[string]any { return map[string]any{"ok": false, "error": code} }

func (s *twin) answer(r *http.Request) map[string]any {
	switch err := r.ParseForm(); {
	case r.URL.Path != "/api/oauth.v2.access":
		return no("unknown_method")
	case err != nil || r.Method != http.MethodPost || r.URL.RawQuery != "" || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded":
		s.bad = append(s.bad, "not a form")
		return no("invalid_form_data")
	case r.PostForm.Get("client_id") != clientID:
		return no("invalid_client_id")
	case r.PostForm.Get("client_secret") != clientSecret:
		return no("bad_client_secret")
	case r.PostForm.Get("grant_type") != "refresh_token":
		return no("invalid_grant_type")
	case s.revoked:
		return no("token_revoked")
	}
	token := r.PostForm.Get("refresh_token")
	if s.seen[token] {
		s.reused++
		s.revoked = true
		clear(s.valid)
		return no("token_revoked")
	}
	if token != s.refresh {
		return no("invalid_refresh_token")
	}
	return s.rotate()
}

func (s *twin) rotate() map[string]any {
	s.n++
	s.seen[s.refresh] = true
	s.refresh = fmt.Sprintf("xoxe-1-%d", s.n)
	access := fmt.Sprintf("xoxe.xoxb-1-%d", s.n)
	s.valid[access] = time.Now().Add(s.life)
	return map[string]any{
		"ok": true, "access_token": access, "refresh_token": s.refresh, "expires_in": int(s.life.Seconds()), "token_type": "bot",
		"app_id": "A1", "team": map[string]any{"id": "T1", "name": "acme"},
	}
}

// accepts is what the rest of Slack does with an access token.
func (s *twin) accepts(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.valid[token])
}

func keyOf(text string) func() (secret.Secret, error) {
	return func() (secret.Secret, error) { return secret.New(text), nil }
}
