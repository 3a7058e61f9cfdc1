// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newIssuer(t *testing.T, o Options) *Issuer {
	t.Helper()
	if o.TrustDomain.IsZero() {
		o.TrustDomain = spiffeid.RequireTrustDomainFromString("laptop.example")
	}
	i, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

var app = spiffeid.RequireFromString("spiffe://laptop.example/app")

func TestMintX509(t *testing.T) {
	i := newIssuer(t, Options{})
	svid, err := i.MintX509(app, 0)
	if err != nil {
		t.Fatal(err)
	}
	id, _, err := x509svid.Verify(svid.Certificates, i.Bundles())
	if err != nil || id != app {
		t.Errorf("verify = %v, %v", id, err)
	}
	certs, key, err := svid.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x509svid.Parse(certs, key); err != nil { // checks the rules of the X509-SVID standard
		t.Errorf("not a valid X509-SVID: %v", err)
	}
}

func TestMintX509Lifetimes(t *testing.T) {
	tests := []struct {
		name      string
		ttl, want time.Duration
	}{
		{"default", 0, time.Hour},
		{"asked for", time.Minute, time.Minute},
		{"never longer than the CA", 100 * time.Hour, 24 * time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				svid, err := newIssuer(t, Options{}).MintX509(app, tt.ttl)
				if err != nil {
					t.Fatal(err)
				}
				if got := time.Until(svid.Certificates[0].NotAfter); got != tt.want {
					t.Errorf("lives %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestMintJWT(t *testing.T) {
	i := newIssuer(t, Options{JWTIssuer: "https://issuer.example"})
	token, err := i.MintJWT(app, "egret", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	svid, err := jwtsvid.ParseAndValidate(token.Reveal(), i.Bundles(), []string{"egret"})
	if err != nil || svid.ID != app || len(svid.Audience) != 1 {
		t.Fatalf("validate = %+v, %v", svid, err)
	}
	if svid.Claims["iss"] != "https://issuer.example" {
		t.Errorf("iss = %v", svid.Claims["iss"])
	}
	if life := svid.Claims["exp"].(float64) - svid.Claims["iat"].(float64); life != 60 {
		t.Errorf("exp - iat = %v s, want 60", life)
	}
	jws, err := jwt.ParseSigned(token.Reveal(), []jose.SignatureAlgorithm{jose.ES256})
	if err != nil || jws.Headers[0].KeyID == "" {
		t.Errorf("no key id in the header: %v", err)
	}
}

func TestMintRefuses(t *testing.T) {
	i := newIssuer(t, Options{})
	foreign := spiffeid.RequireFromString("spiffe://other.example/app")
	tests := []struct {
		name, want string
		mint       func() error
	}{
		{"foreign", `embedded issuer: id "spiffe://other.example/app" is not of trust domain "laptop.example"`,
			func() error { _, err := i.MintX509(foreign, 0); return err }},
		{"no path", `embedded issuer: id "spiffe://laptop.example" names no workload; add a path, such as "spiffe://laptop.example/app"`,
			func() error { _, err := i.MintJWT(i.TrustDomain().ID(), "a", 0); return err }},
		{"negative ttl", `embedded issuer: ttl is -1s, must not be negative`,
			func() error { _, err := i.MintX509(app, -time.Second); return err }},
		{"no audience", `embedded issuer: no audience given; name the service that the token is for`,
			func() error { _, err := i.MintJWT(app, "", 0); return err }},
		{"no trust domain", `embedded issuer: no trust domain given; name one, such as "laptop.example"`,
			func() error { _, err := New(Options{}); return err }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.mint(); err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestRotateKeepsOneGeneration(t *testing.T) {
	i := newIssuer(t, Options{})
	svid, err := i.MintX509(app, 0)
	if err != nil {
		t.Fatal(err)
	}
	token, err := i.MintJWT(app, "egret", 0)
	if err != nil {
		t.Fatal(err)
	}
	before := i.current.Load().x509
	for rotations, good := range []bool{true, true, false} {
		if rotations > 0 {
			if err := i.Rotate(); err != nil {
				t.Fatal(err)
			}
		}
		_, _, err1 := x509svid.Verify(svid.Certificates, i.Bundles())
		_, err2 := jwtsvid.ParseAndValidate(token.Reveal(), i.Bundles(), []string{"egret"})
		if (err1 == nil) != good || (err2 == nil) != good {
			t.Errorf("after %d rotations: x509 %v, jwt %v; want good = %v", rotations, err1, err2, good)
		}
	}
	if len(before.X509Authorities()) != 1 {
		t.Error("a bundle that was handed out has been changed")
	}
}

func TestRotatesByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t, Options{CATTL: 10 * time.Hour, X509TTL: time.Hour})
		first, err := i.MintX509(app, 0)
		if err != nil {
			t.Fatal(err)
		}
		for range 30 { // 30 h: three lives of a CA, in use all the time
			time.Sleep(time.Hour)
			svid, err := i.MintX509(app, 0)
			if err != nil {
				t.Fatal(err)
			}
			if left := time.Until(svid.Certificates[0].NotAfter); left != time.Hour {
				t.Fatalf("a new SVID lives %v", left)
			}
			if _, _, err := x509svid.Verify(svid.Certificates, i.Bundles()); err != nil {
				t.Fatal(err)
			}
		}
		if first.Certificates[0].CheckSignatureFrom(i.current.Load().signer.cert) == nil {
			t.Error("the CA has not changed")
		}
	})
}

func TestBundlesOfAnotherTrustDomain(t *testing.T) {
	i := newIssuer(t, Options{})
	other := spiffeid.RequireTrustDomainFromString("other.example")
	if b, err := i.Bundles().GetX509BundleForTrustDomain(other); err == nil {
		t.Errorf("got %v", b)
	}
	if b, err := i.Bundles().GetJWTBundleForTrustDomain(other); err == nil {
		t.Errorf("got %v", b)
	}
}
