// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer/issuertest"
	"github.com/egret-proxy/egret/internal/secret"
)

// envelope is where a wrapping token is delivered.
type envelope struct{ token string }

func (e *envelope) read() (secret.Secret, error) { return secret.New(e.token), nil }

func (w *world) wrapping(e *envelope, state string) *Provider {
	w.t.Helper()
	return w.provider(func(c *Config) {
		c.Login, c.Keys = Login{}, map[string]string{"token": "api_key"}
		c.Unwrap = &Unwrap{Token: e.read, CreationPath: kvPath, State: state}
	})
}

func (w *world) wrap(token, path string, body map[string]any) {
	w.twin.set(func() { w.twin.wrapped[token] = wrapped{path: path, ends: time.Now().Add(hour), body: body} })
}

func secretBody(text string) map[string]any {
	return map[string]any{"data": version2Of(map[string]any{"api_key": text}), "lease_id": "", "lease_duration": 0}
}

func TestUnwrapOpensOnce(t *testing.T) {
	state := filepath.Join(t.TempDir(), "app.json")
	bubble(t, func(t *testing.T, w *world) {
		e := &envelope{"hvs.one"}
		p := w.wrapping(e, state)
		w.wrap("hvs.one", kvPath, secretBody("first"))
		w.wrap("hvs.two", kvPath, secretBody("second"))
		for range 3 {
			if tok, err := p.Fetch(t.Context(), credential.Key{}, nil); err != nil || value(tok) != "first" {
				t.Fatalf("%v, %q", err, value(tok))
			}
		}
		again := w.wrapping(e, state) // a reload, or a restart
		if tok, err := again.Fetch(t.Context(), credential.Key{}, nil); err != nil || value(tok) != "first" {
			t.Fatalf("%v, %q", err, value(tok))
		}
		want := []string{"POST sys/wrapping/lookup", "POST sys/wrapping/unwrap"}
		if got := w.twin.called(); !slices.Equal(got, want) {
			t.Errorf("calls %q", got)
		}
		e.token = "hvs.two"
		if tok, err := again.Fetch(t.Context(), credential.Key{}, nil); err != nil || value(tok) != "second" {
			t.Fatalf("%v, %q", err, value(tok))
		}
		if st, err := os.Stat(state); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", st, err)
		}
		if left, _ := os.ReadDir(filepath.Dir(state)); len(left) != 1 {
			t.Errorf("files %v", left)
		}
	})
}

func TestUnwrapAlarm(t *testing.T) {
	dir := t.TempDir()
	for name, change := range map[string]func(w *world){
		"opened before": func(w *world) { clear(w.twin.wrapped) },
		"over":          func(*world) { time.Sleep(2 * hour) },
		"made elsewhere": func(w *world) {
			w.twin.wrapped["hvs.one"] = wrapped{path: "sys/wrapping/wrap", ends: time.Now().Add(hour), body: secretBody("evil")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				p := w.wrapping(&envelope{"hvs.one"}, filepath.Join(dir, "x.json"))
				w.wrap("hvs.one", kvPath, secretBody("first"))
				change(w)
				_, err := p.Fetch(t.Context(), credential.Key{}, nil)
				wantError(t, err, credential.Refused, "looking up the wrapping token")
				if log := w.log.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "somebody else") || strings.Contains(log, "hvs.") {
					t.Errorf("log: %s", log)
				}
				if got := w.twin.called(); slices.Contains(got, "POST sys/wrapping/unwrap") {
					t.Errorf("calls %q", got)
				}
			})
		})
	}
}

// The answer of Vault was lost: that is no alarm.
func TestUnwrapThatWasLost(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.wrapping(&envelope{"hvs.one"}, filepath.Join(t.TempDir(), "x.json"))
		w.wrap("hvs.one", kvPath, map[string]any{"data": nil})
		_, err := p.Fetch(t.Context(), credential.Key{}, nil)
		wantError(t, err, credential.NotMinted)
		_, err = p.Fetch(t.Context(), credential.Key{}, nil)
		wantError(t, err, credential.Refused)
		if log := w.log.String(); strings.Contains(log, "level=ERROR") || !strings.Contains(log, "by egret before") {
			t.Errorf("log: %s", log)
		}
	})
}

func TestUnwrapWithALifetime(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.wrapping(&envelope{"hvs.one"}, filepath.Join(t.TempDir(), "x.json"))
		p.cfg.Keys = map[string]string{"token": "client_token"}
		w.wrap("hvs.one", kvPath, map[string]any{"auth": map[string]any{"client_token": "hvs.in", "lease_duration": 3600}})
		for _, want := range []time.Duration{hour, 20 * time.Minute} {
			if tok, err := p.Fetch(t.Context(), credential.Key{}, nil); err != nil || value(tok) != "hvs.in" || tok.Lifetime != want {
				t.Fatalf("%v, %q, %s", err, value(tok), tok.Lifetime)
			}
			time.Sleep(40 * time.Minute)
		}
		_, err := p.Fetch(t.Context(), credential.Key{}, nil)
		wantError(t, err, credential.Refused, "put a new one")
	})
}

// Nothing is opened that could not be kept.
func TestUnwrapNeedsItsState(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.wrap("hvs.one", kvPath, secretBody("first"))
		dir := t.TempDir()
		wide, odd := filepath.Join(dir, "wide"), filepath.Join(dir, "odd")
		for path, mode := range map[string]os.FileMode{wide: 0o644, odd: 0o600} {
			if err := os.WriteFile(path, []byte("hush"), mode); err != nil {
				t.Fatal(err)
			}
		}
		for path, words := range map[string]string{filepath.Join(dir, "gone", "x"): "could not be kept", wide: "chmod 600", odd: "not one of egret's", dir: "regular file"} {
			_, err := w.wrapping(&envelope{"hvs.one"}, path).Fetch(t.Context(), credential.Key{}, nil)
			wantError(t, err, credential.Unreachable, words)
		}
		if got := w.twin.called(); slices.Contains(got, "POST sys/wrapping/unwrap") {
			t.Errorf("calls %q", got)
		}
	})
}

func TestUnwrapFaultMatrix(t *testing.T) {
	for name, at := range map[string]string{"lookup": "/v1/sys/wrapping/lookup", "unwrap": "/v1/sys/wrapping/unwrap"} {
		t.Run(name, func(t *testing.T) {
			issuertest.Matrix{
				At: at, Once: true, Secrets: []string{"hush", "hvs."},
				Twin: func(t *testing.T) http.Handler {
					v := newTwin(newKey(t))
					v.wrapped["hvs.one"] = wrapped{path: kvPath, ends: time.Now().Add(hour), body: secretBody("hush")}
					return v
				},
				Provider: func(t *testing.T, s *issuertest.Server) credential.Provider {
					p, err := New(Config{
						Address: address, Keys: map[string]string{"token": "api_key"}, Issuer: s.Options(),
						Unwrap: &Unwrap{Token: (&envelope{"hvs.one"}).read, CreationPath: kvPath, State: filepath.Join(t.TempDir(), "x.json")},
					})
					if err != nil {
						t.Fatal(err)
					}
					return p
				},
			}.Run(t)
		})
	}
}
