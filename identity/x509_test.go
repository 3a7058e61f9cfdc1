// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"

	"github.com/egret-proxy/egret/identity/embedded"
)

func newX509(t testing.TB, i *embedded.Issuer) *X509 {
	t.Helper()
	x, err := NewX509(X509Options{Bundles: i.Bundles(), TrustDomains: ourTDs})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// selfCA is a CA of our own that signs what no issuer would.
type selfCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newSelfCA(t *testing.T) selfCA {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	key, cert := signed(t, template, template, nil)
	return selfCA{cert, key}
}

func signed(t *testing.T, template, parent *x509.Certificate, by *ecdsa.PrivateKey) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if by == nil {
		by = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, cert
}

// leaf signs a good leaf after change has spoilt it.
func (ca selfCA) leaf(t *testing.T, change func(*x509.Certificate)) []*x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true, URIs: []*url.URL{app.URL()},
	}
	change(template)
	_, cert := signed(t, template, ca.cert, ca.key)
	return []*x509.Certificate{cert}
}

func TestX509RefusesBadChains(t *testing.T) {
	ca, foreign := newSelfCA(t), newSelfCA(t)
	bundles := x509bundle.NewSet(
		x509bundle.FromX509Authorities(td, []*x509.Certificate{ca.cert}),
		x509bundle.FromX509Authorities(enemy, []*x509.Certificate{foreign.cert}),
	)
	x, err := NewX509(X509Options{Bundles: bundles, TrustDomains: ourTDs})
	if err != nil {
		t.Fatal(err)
	}
	uri := func(s string) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			u, err := url.Parse(s)
			if err != nil {
				t.Fatal(err)
			}
			c.URIs = []*url.URL{u}
		}
	}
	good := func(*x509.Certificate) {}
	tests := []struct {
		name  string
		chain []*x509.Certificate
		want  error
	}{
		{"good", ca.leaf(t, good), nil},
		{"no chain", nil, ErrUnknown},
		{"signed by another trust domain's CA", foreign.leaf(t, good), ErrInvalid},
		{"trust domain not allowed", foreign.leaf(t, uri("spiffe://enemy.example/app")), ErrTrustDomain},
		{"no URI", ca.leaf(t, func(c *x509.Certificate) { c.URIs = nil }), ErrInvalid},
		{"two URIs", ca.leaf(t, func(c *x509.Certificate) { c.URIs = append(c.URIs, other.URL()) }), ErrInvalid},
		{"not a SPIFFE ID", ca.leaf(t, uri("https://acme.example/app")), ErrInvalid},
		{"no path", ca.leaf(t, uri("spiffe://acme.example")), ErrInvalid},
		{"root path", ca.leaf(t, uri("spiffe://acme.example/")), ErrInvalid},
		{"upper case trust domain", ca.leaf(t, uri("spiffe://ACME.example/app")), ErrInvalid},
		{"expired", ca.leaf(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }), ErrExpired},
		{"not yet valid", ca.leaf(t, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), ErrInvalid},
		{"a CA itself", ca.leaf(t, func(c *x509.Certificate) { c.IsCA = true; c.KeyUsage = x509.KeyUsageCertSign }), ErrInvalid},
		{"may sign", ca.leaf(t, func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign }), ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := x.Resolve(t.Context(), Peer{Chain: tt.chain})
			wantError(t, err, tt.want)
			if (c == nil) != (tt.want != nil) {
				t.Errorf("caller = %v", c)
			}
		})
	}
}

func TestNewX509Refuses(t *testing.T) {
	for want, o := range map[string]X509Options{
		"x509-svid: no source of bundles given":                                        {TrustDomains: ourTDs},
		"x509-svid: no trust domain is allowed; list those whose callers are accepted": {Bundles: x509bundle.NewSet()},
	} {
		if _, err := NewX509(o); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestX509ExpiresWithItsChain: the intermediate may end before the leaf.
func TestX509ExpiresWithItsChain(t *testing.T) {
	ca := newSelfCA(t)
	soon := time.Now().Add(10 * time.Minute).Truncate(time.Second)
	key, intermediate := signed(t, &x509.Certificate{
		SerialNumber: big.NewInt(3), NotBefore: time.Now().Add(-time.Minute), NotAfter: soon,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, ca.cert, ca.key)
	chain := append(selfCA{intermediate, key}.leaf(t, func(*x509.Certificate) {}), intermediate)
	x, err := NewX509(X509Options{Bundles: x509bundle.FromX509Authorities(td, []*x509.Certificate{ca.cert}), TrustDomains: ourTDs})
	if err != nil {
		t.Fatal(err)
	}
	c, err := x.Resolve(t.Context(), Peer{Chain: chain})
	if err != nil {
		t.Fatal(err)
	}
	if w, err := c.Workload(); err != nil || !w.Expires.Equal(soon) {
		t.Errorf("expires %v, %v; want %v", w.Expires, err, soon)
	}
}

// TestX509ExpiresWithTheLongestChain: a CA that was signed again with its old key gives
// two chains; the caller holds as long as one of them does.
func TestX509ExpiresWithTheLongestChain(t *testing.T) {
	ca := newSelfCA(t)
	short := *ca.cert
	short.NotAfter = time.Now().Add(10 * time.Minute)
	der, err := x509.CreateCertificate(rand.Reader, &short, &short, &ca.key.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	again, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	chain := ca.leaf(t, func(*x509.Certificate) {})
	for _, roots := range [][]*x509.Certificate{{ca.cert, again}, {again, ca.cert}} {
		x, err := NewX509(X509Options{Bundles: x509bundle.FromX509Authorities(td, roots), TrustDomains: ourTDs})
		if err != nil {
			t.Fatal(err)
		}
		c, err := x.Resolve(t.Context(), Peer{Chain: chain})
		if err != nil {
			t.Fatal(err)
		}
		if w, err := c.Workload(); err != nil || time.Until(w.Expires) < 30*time.Minute {
			t.Errorf("expires %v, %v", w.Expires, err)
		}
	}
}

func TestMUST_I4_X509IsAskedAgain(t *testing.T) {
	tests := []struct {
		name   string
		change func(*testing.T, *embedded.Issuer, *failing)
		want   error
	}{
		{"nothing", func(*testing.T, *embedded.Issuer, *failing) {}, nil},
		{"a rotation with overlap", func(t *testing.T, i *embedded.Issuer, _ *failing) { rotate(t, i, 1) }, nil},
		{"the CA has left the bundle", func(t *testing.T, i *embedded.Issuer, _ *failing) { rotate(t, i, 2) }, ErrRevoked},
		{"the leaf has ended", func(*testing.T, *embedded.Issuer, *failing) { time.Sleep(time.Hour) }, ErrExpired},
		{"the leaf has ended and the bundle changed", func(t *testing.T, i *embedded.Issuer, _ *failing) {
			time.Sleep(time.Hour)
			rotate(t, i, 1)
		}, ErrExpired},
		{"the trust domain is federated no more", func(_ *testing.T, _ *embedded.Issuer, f *failing) {
			f.err = errors.New("no bundle")
		}, ErrRevoked},
		{"the source is denied", func(_ *testing.T, _ *embedded.Issuer, f *failing) { f.err = ErrRevoked }, ErrRevoked},
		{"the source is too old", func(_ *testing.T, _ *embedded.Issuer, f *failing) { f.err = ErrUnavailable }, ErrUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := newIssuer(t, embedded.Options{})
				f := &failing{Source: i.Bundles()}
				x, err := NewX509(X509Options{Bundles: f, TrustDomains: ourTDs})
				if err != nil {
					t.Fatal(err)
				}
				c, err := x.Resolve(t.Context(), Peer{Chain: mintX509(t, i, app, time.Hour).Certificates})
				if err != nil {
					t.Fatal(err)
				}
				tt.change(t, i, f)
				for range 2 { // the answer is remembered; it must not change
					w, err := c.Workload()
					wantError(t, err, tt.want)
					if (w == Workload{}) != (tt.want != nil) {
						t.Errorf("workload = %+v", w)
					}
				}
			})
		})
	}
}

// failing is a source that can begin to fail.
type failing struct {
	x509bundle.Source
	err error
}

func (f *failing) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	if f.err != nil {
		return nil, f.err
	}
	return f.Source.GetX509BundleForTrustDomain(td)
}

// TestX509CallerIsConcurrent is for the race detector: requests of one connection while
// the bundle rotates.
func TestX509CallerIsConcurrent(t *testing.T) {
	i := newIssuer(t, embedded.Options{})
	c, err := newX509(t, i).Resolve(t.Context(), Peer{Chain: mintX509(t, i, app, 0).Certificates})
	if err != nil {
		t.Fatal(err)
	}
	var requests sync.WaitGroup
	for range 4 {
		requests.Go(func() {
			for range 50 {
				if _, err := c.Workload(); err != nil && !errors.Is(err, ErrRevoked) {
					t.Error(err)
				}
			}
		})
	}
	rotate(t, i, 3)
	requests.Wait()
	_, err = c.Workload()
	wantError(t, err, ErrRevoked)
}

// TestMUST_I3_ResumedSessionIsVerified: with TLS session tickets and go-spiffe's own
// server configuration, a second connection is resumed and crypto/tls asks nobody. The
// resolver verifies the chain that the ticket carried.
func TestMUST_I3_ResumedSessionIsVerified(t *testing.T) {
	i := newIssuer(t, embedded.Options{})
	server := mintX509(t, i, other, 0)
	asked := 0
	authorize := func(spiffeid.ID, [][]*x509.Certificate) error { asked++; return nil }
	config := tlsconfig.MTLSServerConfig(server, i.Bundles(), authorize)
	client := tlsconfig.MTLSClientConfig(mintX509(t, i, app, 0), i.Bundles(), tlsconfig.AuthorizeAny())
	client.ServerName, client.ClientSessionCache = "egret", tls.NewLRUClientSessionCache(1)
	x := newX509(t, i)

	first := handshake(t, config, client)
	if _, err := x.Resolve(t.Context(), Peer{Chain: first.PeerCertificates}); err != nil || first.DidResume {
		t.Fatalf("first connection: resumed %v, %v", first.DidResume, err)
	}
	rotate(t, i, 2) // the client's CA is trusted no more
	second := handshake(t, config, client)
	if !second.DidResume || asked != 1 {
		t.Fatalf("the flaw does not reproduce: resumed %v, authorizer was asked %d times", second.DidResume, asked)
	}
	_, err := x.Resolve(t.Context(), Peer{Chain: second.PeerCertificates})
	wantError(t, err, ErrInvalid)
}

// handshake makes one TLS connection over loopback and returns the server's view.
func handshake(t *testing.T, server, client *tls.Config) tls.ConnectionState {
	t.Helper()
	l, err := tls.Listen("tcp4", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var state tls.ConnectionState
	done := make(chan error, 1)
	go func() { done <- serveOne(l, &state) }()
	c, err := tls.Dial("tcp4", l.Addr().String(), client)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.ReadAll(c); err != nil { // reads the ticket too
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return state
}

func serveOne(l net.Listener, state *tls.ConnectionState) error {
	c, err := l.Accept()
	if err != nil {
		return err
	}
	conn := c.(*tls.Conn)
	defer conn.Close()
	if err := conn.Handshake(); err != nil {
		return err
	}
	*state = conn.ConnectionState()
	_, err = conn.Write([]byte("x"))
	return err
}
