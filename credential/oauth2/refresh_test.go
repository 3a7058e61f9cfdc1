// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package oauth2

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer/issuertest"
	"github.com/egret-proxy/egret/credential/issuer/rotation"
)

func rotationOf(t testing.TB) Rotation {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(path, []byte("rt-0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return Rotation{Store: rotation.NewFile(path), Lease: rotation.NewLock(path + ".lock")}
}

// rotating makes s one whose refresh tokens work once.
func rotating(s *server) {
	current, n := "rt-0", 0
	s.say = func(w http.ResponseWriter, r *http.Request) {
		if r.PostForm.Get("refresh_token") != current {
			answer(w, 400, map[string]any{"error": "invalid_grant", "error_description": "hush"})
			return
		}
		n++
		current = "rt-" + string(rune('0'+n))
		answer(w, 200, map[string]any{"access_token": "at-" + string(rune('0'+n)), "refresh_token": current, "token_type": "Bearer", "expires_in": 3600})
	}
}

func TestMUST_C6_RefreshGrantStoresThePairBeforeItsUse(t *testing.T) {
	for _, auth := range []string{ClientSecretBasic, ClientSecretPost, PrivateKeyJWT, None} {
		s := newServer(t, auth, RefreshToken)
		rotating(s)
		state := rotationOf(t)
		p := s.provider(func(c *Config) { c.State = state })
		tok, err := p.Fetch(t.Context(), credential.Key{}, nil)
		if err != nil || tok.Values["token"].Reveal() != "at-1" || tok.Lifetime > time.Hour || tok.Lifetime < 59*time.Minute {
			t.Fatalf("%s: %v; %q", auth, err, s.bad)
		}
		if st, err := state.Store.Load(t.Context()); err != nil || st.Refresh.Reveal() != "rt-1" || !st.Asked.IsZero() {
			t.Errorf("%s: %+v, %v", auth, st, err)
		}
		// MUST C14: another replica reads the access token only.
		other := s.provider(func(c *Config) { c.State = state })
		if tok, err := other.Fetch(t.Context(), credential.Key{}, nil); err != nil || tok.Values["token"].Reveal() != "at-1" || s.Asked() != 1 {
			t.Errorf("%s: %v, asked %d times", auth, err, s.Asked())
		}
	}
}

// What an answer says of the refresh token: the next use must not be a second one, unless
// the first is known not to have been.
func TestMUST_C6_WhatIsKnownAfterAFault(t *testing.T) {
	open := map[string]bool{ // the token may be spent: the state says so
		"500": true, "502": true, "silent": true, "endless": true, "reset": true, "closed": true, "breaks off": true, "huge header": true,
		"quotes in the status": true, "quotes in a header": true, "quotes in a length": true, "quotes in an encoding": true, "quotes in a trailer": true,
		"no content": true, "empty": true, "half": true, "twice": true, "null": true, "a list": true, "an empty object": true, "something else": true,
		"not UTF-8": true, "packed": true, "huge": true, "wrong type": true, "type that is none": true,
	}
	for _, f := range issuertest.Faults() {
		if f.Minted {
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, ClientSecretBasic, RefreshToken)
			rotating(s)
			state := rotationOf(t)
			p := s.provider(func(c *Config) { c.State, c.Issuer.Timeout = state, 4*time.Second }) // a busy machine must get as far as to ask
			s.Break(&f)
			_, err := p.Fetch(t.Context(), credential.Key{}, nil)
			if err == nil || strings.Contains(err.Error(), issuertest.Hush) {
				t.Fatal(err)
			}
			st, err := state.Store.Load(t.Context())
			if err != nil || st.Refresh.Reveal() != "rt-0" || st.Asked.IsZero() == open[f.Name] || st.Spent {
				t.Errorf("%+v, %v", st, err)
			}
		})
	}
}

func TestMUST_C8_ARefreshTokenThatIsRefusedIsNotAskedAgain(t *testing.T) {
	s := newServer(t, ClientSecretBasic, RefreshToken)
	rotating(s)
	state := rotationOf(t)
	if err := state.Store.Save(t.Context(), mustParse(t, "rt-9")); err != nil {
		t.Fatal(err)
	}
	p := s.provider(func(c *Config) { c.State = state })
	for range 3 {
		_, err := p.Fetch(t.Context(), credential.Key{}, nil)
		wantError(t, err, credential.Refused)
	}
	if s.Asked() != 1 || !strings.Contains(s.Log(), "level=ERROR") || strings.Contains(s.Log(), "rt-9") {
		t.Errorf("asked %d times; %s", s.Asked(), s.Log())
	}
	// A person writes another one.
	if err := state.Store.Save(t.Context(), mustParse(t, "rt-0")); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Fetch(t.Context(), credential.Key{}, nil); err != nil {
		t.Error(err)
	}
}

func mustParse(t *testing.T, text string) rotation.State {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	st, err := rotation.NewFile(path).Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st
}
