// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package issuertest

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/credential"
)

// Matrix holds one provider to all faults.
type Matrix struct {
	// Twin makes an issuer that refuses what the real one refuses.
	Twin func(t *testing.T) http.Handler
	// Provider makes one that asks s; Options, or Roots and Dial, say how. It is closed.
	Provider func(t *testing.T, s *Server) credential.Provider
	// Subject is the caller. May be nil.
	Subject credential.Subject
	// At is the path of the requests that are broken, where several are made. Empty: all.
	At string
	// Lifetime is the JSON member that tells the lifetime in seconds. Empty: none does.
	Lifetime string
	// Want are the outcomes, by the fault's name, in which this issuer differs with a reason.
	Want map[string]credential.Kind
	// Skip names the faults that this issuer cannot have.
	Skip []string
	// Once: what is asked once cannot be asked again after an answer that was spoilt.
	Once bool
	// Secrets must stand in no error and no log.
	Secrets []string
}

// long is what no issuer means: the Cache then goes by the configured lifetime.
const long = 30 * 24 * time.Hour

// Run tests every fault by itself, and first that there is a token without one.
func (m Matrix) Run(t *testing.T) {
	t.Helper()
	all := append([]Fault{{Name: "none", Minted: true}}, Faults()...)
	if m.Lifetime != "" {
		all = append(all, lifetimes(m.Lifetime)...)
	}
	m.known(t, all)
	for _, f := range all {
		if slices.Contains(m.Skip, f.Name) {
			continue
		}
		if kind, ok := m.Want[f.Name]; ok {
			f.Kind = kind
		}
		t.Run(f.Name, func(t *testing.T) { m.one(t, &f) })
	}
}

// known holds Want and Skip to names that there are.
func (m Matrix) known(t *testing.T, all []Fault) {
	t.Helper()
	names := slices.Clone(m.Skip)
	for name := range m.Want {
		names = append(names, name)
	}
	for _, name := range names {
		if !slices.ContainsFunc(all, func(f Fault) bool { return f.Name == name }) {
			t.Errorf("there is no fault %q", name)
		}
	}
}

func (m Matrix) one(t *testing.T, f *Fault) {
	s := NewServer(t, m.Twin(t))
	s.at = m.At
	s.Break(f)
	p := m.Provider(t, s)
	t.Cleanup(func() {
		if c, ok := p.(io.Closer); ok {
			_ = c.Close()
		}
	})
	tok, err := m.fetch(t, p, f)
	m.check(t, f, tok, err)
	m.quiet(t, err, s.Log())
	if s.Break(nil); m.Once || f.Minted {
		return
	}
	if _, err := p.Fetch(t.Context(), credential.Key{}, m.Subject); err != nil {
		t.Errorf("the issuer is well again, but: %v", err)
	}
}

// fetch waits for an issuer without end only a short while.
func (m Matrix) fetch(t *testing.T, p credential.Provider, f *Fault) (credential.Token, error) {
	ctx := t.Context()
	if f.Name == "silent" || f.Name == "endless" {
		short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		ctx = short
	}
	return p.Fetch(ctx, credential.Key{}, m.Subject)
}

func (m Matrix) check(t *testing.T, f *Fault, tok credential.Token, err error) {
	t.Helper()
	if f.Minted {
		if err != nil || len(tok.Values) == 0 {
			t.Fatalf("no token: %v", err)
		}
		if f.lifetime != "" && tok.Lifetime > 0 && tok.Lifetime <= long {
			t.Errorf("lifetime %s is believed", tok.Lifetime)
		}
		return
	}
	e, ok := err.(*credential.Error) //nolint:errorlint // the outermost must be one
	switch {
	case err == nil:
		t.Fatalf("a token (%d values) came of it", len(tok.Values))
	case !ok || e.Kind != f.Kind:
		t.Errorf("%v (%T), want %s", err, err, f.Kind)
	case e.RetryAfter != f.RetryAfter:
		t.Errorf("ask again after %s, want %s", e.RetryAfter, f.RetryAfter)
	}
	if len(tok.Values) > 0 || tok.Certificate != nil || tok.Revoke != nil {
		t.Error("a token beside the error")
	}
}

// quiet is MUST C9.
func (m Matrix) quiet(t *testing.T, err error, log string) {
	t.Helper()
	text := log
	if err != nil {
		text += err.Error()
	}
	for _, leak := range append(slices.Clone(m.Secrets), Hush) {
		if strings.Contains(text, leak) {
			t.Errorf("MUST C9: %q is quoted: %s", leak, text)
		}
	}
}
