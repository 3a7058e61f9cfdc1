// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package svid

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/svid/svidtest"
	"github.com/egret-proxy/egret/internal/secret"
)

const (
	id       = "spiffe://acme.example/dashboard"
	audience = "https://issuer.example"
)

func TestFetchReadsWhatTheTokenSays(t *testing.T) {
	for name, d := range map[string]*svidtest.Domain{"ES256": svidtest.New(t), "RS256": svidtest.NewRSA(t)} {
		s := d.Subject(id)
		s.JTI = "unique"
		got, err := Fetch(t.Context(), s, audience)
		if err != nil {
			t.Fatal(err)
		}
		if got.Algorithm != name || got.Subject != id || got.Issuer != svidtest.Issuer || got.ID != "unique" {
			t.Errorf("%+v", got)
		}
		if d := got.Remaining(); d < 4*time.Minute || d > 5*time.Minute || got.Expires.Sub(got.Issued).Round(time.Second) != 5*time.Minute {
			t.Errorf("remaining %s, %+v", d, got)
		}
		if _, err := svidtest.Verify(d.JWKS(), got.Value.Reveal(), svidtest.Expect{Audience: audience, Subject: id}); err != nil {
			t.Error(err)
		}
		if text := fmt.Sprintf("%v %+v %#v", got, got, got); strings.Contains(text, got.Value.Reveal()) {
			t.Error("MUST C9: the token is printed")
		}
	}
}

// A token of the wrong kind is refused before an issuer sees it.
func TestMUST_I10_OnlyATokenForThisAudienceAlone(t *testing.T) {
	d := svidtest.New(t)
	for name, spoil := range map[string]func(*svidtest.Subject){
		"another":     func(s *svidtest.Subject) { s.Audience = jwt.Audience{"egret"} },
		"one of two":  func(s *svidtest.Subject) { s.Audience = jwt.Audience{audience, "egret"} },
		"none":        func(s *svidtest.Subject) { s.Audience = jwt.Audience{} },
		"has ended":   func(s *svidtest.Subject) { s.Life = -time.Second },
		"upper case":  func(s *svidtest.Subject) { s.Audience = jwt.Audience{strings.ToUpper(audience)} },
		"twice":       func(s *svidtest.Subject) { s.Audience = jwt.Audience{audience, audience} },
		"with spaces": func(s *svidtest.Subject) { s.Audience = jwt.Audience{audience + " egret"} },
	} {
		s := d.Subject(id)
		spoil(s)
		got, err := Fetch(t.Context(), s, audience)
		want(t, name, err, credential.NotMinted)
		if !got.Value.IsZero() {
			t.Errorf("%s: a token comes with the error", name)
		}
	}
}

func TestFetchWithoutAnIdentity(t *testing.T) {
	_, err := Fetch(t.Context(), nil, audience)
	want(t, "no subject", err, credential.Unconfigured)
	s := svidtest.New(t).Subject(id)
	s.Err = errors.New("agent is away")
	_, err = Fetch(t.Context(), s, audience)
	want(t, "no agent", err, credential.Unreachable)
	if !errors.Is(err, s.Err) {
		t.Errorf("%v must wrap its cause", err)
	}
}

func want(t *testing.T, name string, err error, k credential.Kind) {
	t.Helper()
	e, ok := err.(*credential.Error) //nolint:errorlint // the outermost must be one
	if !ok || e.Kind != k {
		t.Errorf("%s: %v, want kind %s", name, err, k)
	}
}

// fixed is a subject with this token.
type fixed string

func (f fixed) JWTSVID(context.Context, string) (secret.Secret, time.Time, error) {
	return secret.New(string(f)), time.Now().Add(time.Hour), nil
}

func (fixed) X509SVID(context.Context) (tls.Certificate, error) { return tls.Certificate{}, nil }

func jws(header, payload string) string {
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(header)) + "." + enc([]byte(payload)) + ".c2ln"
}

func TestTokensThatCannotBeRead(t *testing.T) {
	const good = `{"aud":"` + audience + `","exp":4102444800}`
	if _, err := Fetch(t.Context(), fixed(jws(`{"alg":"ES256"}`, good)), audience); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		"", "a", "a.b", "a.b.c", "..", jws(`{}`, good) + ".x.y", "!." + strings.SplitN(jws(`{}`, good), ".", 2)[1],
		strings.TrimSuffix(jws(`{}`, good), "c2ln"), jws(`[]`, good), jws(`{"alg":1}`, good), jws(`{}`, `null`), jws(`{}`, `[]`),
		jws(`{}`, `{"aud":1,"exp":4102444800}`), jws(`{}`, `{"exp":4102444800}`), jws(`{}`, `{"aud":"`+audience+`"}`),
		jws(`{}`, `{"aud":"`+audience+`","exp":"4102444800"}`), jws(`{}`, `{"aud":"`+audience+`","exp":1e300}`),
		jws(`{}`, `{"aud":"`+audience+`","exp":-1}`), jws(`{}`, `{"aud":"`+audience+`","exp":null}`),
	} {
		_, err := Fetch(t.Context(), fixed(bad), audience)
		want(t, bad, err, credential.NotMinted)
		if err != nil && len(bad) > 3 && strings.Contains(err.Error(), bad) {
			t.Errorf("MUST C9: the error quotes the token: %v", err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(jws(`{"alg":"ES256"}`, `{"aud":["https://issuer.example"],"exp":4102444800,"iat":1}`))
	f.Add(jws(`{"alg":"none"}`, `{"aud":"https://issuer.example","exp":1e12}`))
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := parse(secret.New(raw), audience)
		if err != nil {
			return
		}
		if got.Expires.IsZero() || got.Value.Reveal() != raw || strings.Count(raw, ".") != 2 {
			t.Fatalf("%q gives %+v", raw, got)
		}
		var c claims
		if !decode(strings.Split(raw, ".")[1], &c) || len(audiences(c.Audience)) != 1 || audiences(c.Audience)[0] != audience {
			t.Fatalf("%q passes with audience %s", raw, c.Audience)
		}
	})
}
