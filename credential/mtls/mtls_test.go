// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package mtls

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/svid/svidtest"
	"github.com/egret-proxy/egret/internal/secret"
)

const id = "spiffe://acme.example/dashboard"

func TestCertificateIsTheWorkloadsOwn(t *testing.T) {
	sub := svidtest.New(t).Subject(id)
	tok, err := New().Fetch(t.Context(), credential.Key{}, sub)
	if err != nil || len(tok.Values) != 0 || tok.Certificate.Leaf.URIs[0].String() != id {
		t.Fatalf("%+v, %v", tok, err)
	}
	sum := sha256.Sum256(tok.Certificate.Certificate[0])
	if tok.Fingerprint != "sha256:"+hex.EncodeToString(sum[:6]) {
		t.Errorf("fingerprint %s", tok.Fingerprint)
	}
	if tok.Lifetime <= 59*time.Minute || tok.Lifetime > time.Hour {
		t.Errorf("lifetime %s must end with the certificate", tok.Lifetime)
	}
	if tok.Certificate.PrivateKey == nil {
		t.Error("no key to present it with")
	}
}

// given is a subject with this certificate.
type given struct{ cert tls.Certificate }

func (given) JWTSVID(context.Context, string) (secret.Secret, time.Time, error) {
	return secret.Secret{}, time.Time{}, errors.New("none")
}

func (g given) X509SVID(context.Context) (tls.Certificate, error) { return g.cert, nil }

func TestSVIDsThatAreOfNoUse(t *testing.T) {
	d := svidtest.New(t)
	good, err := d.Subject(id).X509SVID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	over := d.Subject(id)
	over.X509Life = -time.Minute
	away := d.Subject(id)
	away.Err = errors.New("agent is away")
	for name, tc := range map[string]struct {
		s    credential.Subject
		want credential.Kind
	}{
		"no subject":   {nil, credential.Unconfigured},
		"agent away":   {away, credential.Unreachable},
		"has ended":    {over, credential.Expired},
		"empty":        {given{}, credential.NotMinted},
		"without key":  {given{tls.Certificate{Certificate: good.Certificate}}, credential.NotMinted},
		"no X.509":     {given{tls.Certificate{Certificate: [][]byte{[]byte("x")}, PrivateKey: good.PrivateKey}}, credential.NotMinted},
		"only the key": {given{tls.Certificate{PrivateKey: good.PrivateKey}}, credential.NotMinted},
	} {
		tok, err := New().Fetch(t.Context(), credential.Key{}, tc.s)
		e, ok := err.(*credential.Error) //nolint:errorlint // the outermost must be one
		if !ok || e.Kind != tc.want || tok.Certificate != nil {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
	}
}

// Through the cache: nothing is injected, each workload has its own, and a rotation is
// taken over when it is asked for.
func TestMUST_C3_ThroughTheCache(t *testing.T) {
	d := svidtest.New(t)
	c, err := credential.NewCache(credential.CacheOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Install([]credential.Spec{{Name: "p", Generation: "1", Provider: New(), Bare: true}})
	get := func(s *svidtest.Subject) credential.Credential {
		v, err := c.Credential(t.Context(), credential.Key{ID: spiffeid.RequireFromString(s.ID), Provider: "p", Generation: "1"}, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	a, b := d.Subject(id), d.Subject(id+"2")
	first := get(a)
	r, _ := http.NewRequest(http.MethodGet, "https://ledger.acme.example/", nil)
	if err := first.Apply(r); err != nil || len(r.Header) != 0 {
		t.Errorf("%v, %v", err, r.Header)
	}
	if got := get(b).ClientCertificate().Leaf.URIs[0].String(); got != b.ID {
		t.Errorf("%s got the certificate of %s", b.ID, got)
	}
	a.Rotate()
	k := credential.Key{ID: spiffeid.RequireFromString(a.ID), Provider: "p", Generation: "1"}
	c.Invalidate(k, first.Fingerprint())
	if get(a).Fingerprint() == first.Fingerprint() {
		t.Error("the new SVID is not taken over")
	}
}
