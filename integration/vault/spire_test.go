// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package vault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/vault"
	"github.com/egret-proxy/egret/integration/internal/testbed"
	"github.com/egret-proxy/egret/internal/secret"
)

// spire is a SPIRE to which every program of root is alice, with a DNS name.
type spire struct {
	*testbed.SPIRE
	w *world
}

func (w *world) spire() *spire {
	w.t.Helper()
	return &spire{testbed.StartSPIRE(w.t, "../spire/build.sh", w.file("spire"), alice.String(), "-dns", "alice.acme.example"), w}
}

// bundle is what Vault trusts: keys of JWT-SVIDs, and CA certificates, both PEM.
func (s *spire) bundle() (keys []string, cas string) {
	s.w.t.Helper()
	var set jose.JSONWebKeySet
	s.w.do(json.Unmarshal([]byte(s.Server("bundle", "show", "-format", "spiffe")), &set))
	for i := range set.Keys {
		switch k := &set.Keys[i]; k.Use {
		case "jwt-svid":
			der, err := x509.MarshalPKIXPublicKey(k.Key)
			s.w.do(err)
			keys = append(keys, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
		case "x509-svid":
			cas += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.Certificates[0].Raw}))
		}
	}
	return keys, cas
}

func (s *spire) address() workloadapi.ClientOption {
	return workloadapi.WithAddr(s.Address())
}

// JWTSVID implements credential.Subject, as X509SVID does.
func (s *spire) JWTSVID(ctx context.Context, audience string) (secret.Secret, time.Time, error) {
	svid, err := workloadapi.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience}, s.address())
	if err != nil {
		return secret.Secret{}, time.Time{}, err
	}
	return secret.New(svid.Marshal()), svid.Expiry, nil
}

func (s *spire) X509SVID(ctx context.Context) (tls.Certificate, error) {
	svid, err := workloadapi.FetchX509SVID(ctx, s.address())
	if err != nil {
		return tls.Certificate{}, err
	}
	cert := tls.Certificate{PrivateKey: svid.PrivateKey}
	for _, c := range svid.Certificates {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert, nil
}

// Vault takes what a real SPIRE gives, by both methods.
func TestSVIDsOfSPIRE(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the entry is for root")
	}
	w := newWorld(t)
	w.put("first")
	s := w.spire()
	p := w.kv(nil)
	w.wantError(p, s, credential.Refused) // Vault does not trust SPIRE yet
	keys, cas := s.bundle()
	w.must("POST", "auth/jwt/config", members{"jwt_validation_pubkeys": keys, "bound_issuer": "https://oidc.acme.example"})
	w.must("POST", "auth/cert/certs/alice", members{"certificate": cas, "allowed_uri_sans": alice.String(), "token_policies": "alice"})
	for _, p := range []*vault.Provider{p, w.kv(func(c *vault.Config) { c.Login.Method = vault.Cert })} {
		tok, err := p.Fetch(t.Context(), key(alice), s)
		if err != nil || value(tok) != "first" {
			t.Errorf("%v, %q", err, value(tok))
		}
	}
	w.jwtRole("alice", members{"bound_subject": bob.String()})
	w.wantError(p, s, credential.Refused)
}
