// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package jwt

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/svid/svidtest"
)

const (
	id       = "spiffe://acme.example/dashboard"
	audience = "https://api.partner.example"
)

func provider(t *testing.T, c Config) *Provider {
	t.Helper()
	if c.Audience == "" {
		c.Audience = audience
	}
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTokenIsAnSVIDForTheDestination(t *testing.T) {
	d := svidtest.New(t)
	sub := d.Subject(id)
	tok, err := provider(t, Config{}).Fetch(t.Context(), credential.Key{}, sub)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := svidtest.Verify(d.JWKS(), tok.Values["token"].Reveal(), svidtest.Expect{Audience: audience, Subject: id}); err != nil {
		t.Error(err)
	}
	if tok.Lifetime <= 4*time.Minute || tok.Lifetime > 5*time.Minute {
		t.Errorf("lifetime %s must be that of exp", tok.Lifetime)
	}
}

func TestMUST_I10_NeverTheTokenThatWasShownToEgret(t *testing.T) {
	d := svidtest.New(t)
	for name, aud := range map[string][]string{"egret's": {"egret"}, "both": {audience, "egret"}} {
		sub := d.Subject(id)
		sub.Audience = aud
		_, err := provider(t, Config{}).Fetch(t.Context(), credential.Key{}, sub)
		if e := want(t, err, credential.NotMinted); !strings.Contains(e.Error(), "alone") {
			t.Errorf("%s: %v", name, e)
		}
	}
	_, err := provider(t, Config{}).Fetch(t.Context(), credential.Key{}, nil)
	want(t, err, credential.Unconfigured)
	sub := d.Subject(id)
	sub.Err = errors.New("agent is away")
	_, err = provider(t, Config{}).Fetch(t.Context(), credential.Key{}, sub)
	want(t, err, credential.Unreachable)
}

func TestMUST_C11_SingleUseNeedsAJTI(t *testing.T) {
	sub := svidtest.New(t).Subject(id)
	_, err := provider(t, Config{SingleUse: true}).Fetch(t.Context(), credential.Key{}, sub)
	if e := want(t, err, credential.Refused); !strings.Contains(e.Error(), "set jwtSVIDIncludeJTI on SPIRE's entry") {
		t.Error(e)
	}
	sub.JTI = "unique"
	if _, err := provider(t, Config{SingleUse: true}).Fetch(t.Context(), credential.Key{}, sub); err != nil {
		t.Error(err)
	}
}

func TestConfigIsStrict(t *testing.T) {
	for _, bad := range []string{"", "a b", "a,b", "a\tb"} {
		if _, err := New(Config{Audience: bad}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// The token of one workload is never another's, and a new one comes before its end.
func TestThroughTheCache(t *testing.T) {
	d := svidtest.New(t)
	synctest.Test(t, func(t *testing.T) {
		in, err := credential.NewInjection(credential.InjectionConfig{Header: "Authorization", Value: "Bearer {token}"})
		if err != nil {
			t.Fatal(err)
		}
		c, err := credential.NewCache(credential.CacheOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.Install([]credential.Spec{{Name: "p", Generation: "1", Provider: provider(t, Config{}), Inject: []credential.Injection{in}}})
		a, b := d.Subject(id), d.Subject(id+"2")
		show := func(s *svidtest.Subject) string {
			k := credential.Key{ID: spiffeid.RequireFromString(s.ID), Provider: "p", Generation: "1", Audience: audience}
			v, err := c.Credential(t.Context(), k, s)
			if err != nil {
				t.Fatal(err)
			}
			r, _ := http.NewRequest(http.MethodGet, "https://api.partner.example/", nil)
			if err := v.Apply(r); err != nil {
				t.Fatal(err)
			}
			return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		}
		for range 20 {
			for _, s := range []*svidtest.Subject{a, b} {
				if _, err := svidtest.Verify(d.JWKS(), show(s), svidtest.Expect{Audience: audience, Subject: s.ID}); err != nil {
					t.Fatalf("%s: %v", s.ID, err)
				}
			}
			time.Sleep(time.Minute)
		}
		if n := len(a.Asked()); n < 4 || n > 8 {
			t.Errorf("%d tokens of five minutes in twenty", n)
		}
	})
}

func want(t testing.TB, err error, k credential.Kind) *credential.Error {
	t.Helper()
	e, ok := err.(*credential.Error) //nolint:errorlint // the outermost must be one
	if !ok || e.Kind != k {
		t.Fatalf("err = %v (%T), want %s", err, err, k)
	}
	return e
}
