// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/identity/embedded"
)

var (
	partner  = spiffeid.RequireTrustDomainFromString("partner.example")
	stranger = spiffeid.RequireTrustDomainFromString("stranger.example")
)

func bundlesOf(t *testing.T, i *embedded.Issuer) embedded.Federated {
	t.Helper()
	x, err1 := i.Bundles().GetX509BundleForTrustDomain(i.TrustDomain())
	j, err2 := i.Bundles().GetJWTBundleForTrustDomain(i.TrustDomain())
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return embedded.Federated{X509: x, JWT: j}
}

func idOf(td spiffeid.TrustDomain) spiffeid.ID { return spiffeid.RequireFromPath(td, "/app") }

// TestFederation: callers of two trust domains, each verified by its own bundle, which
// came over the Workload API. A third one that the agent federates with is not ours.
func TestFederation(t *testing.T) {
	theirs := newIssuer(t, embedded.Options{TrustDomain: partner})
	others := newIssuer(t, embedded.Options{TrustDomain: stranger})
	a := newAgent(t, embedded.Options{}, embedded.Entry{ID: app})
	if err := a.issuer.Federate(bundlesOf(t, theirs), bundlesOf(t, others)); err != nil {
		t.Fatal(err)
	}
	both := []spiffeid.TrustDomain{td, partner}
	s := runSource(t, SourceOptions{Address: a.address(), TrustDomains: both})
	ready(t, s)
	x, err1 := NewX509(X509Options{Bundles: s, TrustDomains: both})
	j, err2 := NewJWT(JWTOptions{Bundles: s, TrustDomains: both, Audience: audience})
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	tests := []struct {
		name   string
		issuer *embedded.Issuer
		want   error
	}{
		{"ours", a.issuer, nil},
		{"the partner's", theirs, nil},
		{"a stranger's", others, ErrTrustDomain},
		{"one that says it is the partner", newIssuer(t, embedded.Options{TrustDomain: partner}), ErrInvalid},
		{"one that says it is us", newIssuer(t, embedded.Options{}), ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id := idOf(tt.issuer.TrustDomain())
			for _, r := range []struct {
				Resolver
				p Peer
			}{
				{x, Peer{Chain: mintX509(t, tt.issuer, id, 0).Certificates}},
				{j, Peer{JWT: mintJWT(t, tt.issuer, id, 0)}},
			} {
				c, err := r.Resolve(t.Context(), r.p)
				wantError(t, err, tt.want)
				if tt.want != nil {
					continue
				}
				if w, err := c.Workload(); err != nil || w.ID != id {
					t.Errorf("got %+v, %v; want %q", w, err, id)
				}
			}
		})
	}
}

// TestFederationEnds: a partner that is not federated with any more vouches for nobody,
// on connections that are open too; and a partner's new keys are followed.
func TestFederationEnds(t *testing.T) {
	theirs := newIssuer(t, embedded.Options{TrustDomain: partner})
	a := newAgent(t, embedded.Options{}, embedded.Entry{ID: app})
	if err := a.issuer.Federate(bundlesOf(t, theirs)); err != nil {
		t.Fatal(err)
	}
	both := []spiffeid.TrustDomain{td, partner}
	s := runSource(t, SourceOptions{Address: a.address(), TrustDomains: both})
	ready(t, s)
	x, err := NewX509(X509Options{Bundles: s, TrustDomains: both})
	if err != nil {
		t.Fatal(err)
	}
	c, err := x.Resolve(t.Context(), Peer{Chain: mintX509(t, theirs, idOf(partner), 0).Certificates})
	if err != nil {
		t.Fatal(err)
	}
	ours, err := x.Resolve(t.Context(), Peer{Chain: mintX509(t, a.issuer, app, 0).Certificates})
	if err != nil {
		t.Fatal(err)
	}

	rotate(t, theirs, 1)
	if err := a.issuer.Federate(bundlesOf(t, theirs)); err != nil {
		t.Fatal(err)
	}
	newer := Peer{Chain: mintX509(t, theirs, idOf(partner), 0).Certificates}
	eventually(t, "the partner's new keys", func() bool { _, err := x.Resolve(t.Context(), newer); return err == nil })
	if _, err := c.Workload(); err != nil {
		t.Errorf("an older SVID, whose key is still in the bundle: %v", err)
	}

	if err := a.issuer.Federate(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the partner is revoked", func() bool { _, err := c.Workload(); return err != nil })
	_, err = c.Workload()
	wantError(t, err, ErrRevoked)
	if _, err := ours.Workload(); err != nil {
		t.Errorf("our own caller: %v", err)
	}
	_, err = x.Resolve(t.Context(), newer)
	wantError(t, err, ErrInvalid)
}
