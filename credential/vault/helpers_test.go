// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	address = "https://vault.example:8200"
	aliceID = "spiffe://acme.example/alice"
	bobID   = "spiffe://acme.example/bob"
)

// caller is a workload with SVIDs.
type caller struct {
	id       string
	key      *ecdsa.PrivateKey
	audience []string // instead of what is asked for
	nameless bool     // no common name in the X.509-SVID
	err      error
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (c *caller) JWTSVID(_ context.Context, aud string) (secret.Secret, time.Time, error) {
	exp := time.Now().Add(5 * time.Minute)
	if c.err != nil {
		return secret.Secret{}, exp, c.err
	}
	auds := jwt.Audience{aud}
	if c.audience != nil {
		auds = c.audience
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: c.key}, nil)
	if err != nil {
		return secret.Secret{}, exp, err
	}
	text, err := jwt.Signed(signer).Claims(jwt.Claims{Subject: c.id, Audience: auds, Expiry: jwt.NewNumericDate(exp)}).Serialize()
	return secret.New(text), exp, err
}

func (c *caller) X509SVID(context.Context) (tls.Certificate, error) {
	if c.err != nil {
		return tls.Certificate{}, c.err
	}
	u, err := url.Parse(c.id)
	if err != nil {
		return tls.Certificate{}, err
	}
	name := pkix.Name{CommonName: "app"}
	if c.nameless {
		name = pkix.Name{Organization: []string{"SPIRE"}}
	}
	return certificateOf(c.key, &x509.Certificate{URIs: []*url.URL{u}, Subject: name})
}

func certificateOf(key *ecdsa.PrivateKey, c *x509.Certificate) (tls.Certificate, error) {
	c.SerialNumber = big.NewInt(1)
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(1000*time.Hour)
	c.IsCA, c.BasicConstraintsValid = true, true
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

// world is a twin that is reached over pipes, so that it stands in a bubble of fake time.
type world struct {
	t     testing.TB
	twin  *twin
	alice *caller
	bob   *caller
	log   *lockedBuffer
	roots *x509.CertPool
	pipes *pipes
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newWorld(t testing.TB) *world {
	t.Helper()
	key := newKey(t)
	w := &world{
		t: t, twin: newTwin(key), log: &lockedBuffer{}, roots: x509.NewCertPool(),
		alice: &caller{id: aliceID, key: key}, bob: &caller{id: bobID, key: key},
		pipes: &pipes{ch: make(chan net.Conn), done: make(chan struct{})},
	}
	cert, err := certificateOf(key, &x509.Certificate{DNSNames: []string{"vault.example"}})
	if err != nil {
		t.Fatal(err)
	}
	w.roots.AddCert(cert.Leaf)
	srv := &http.Server{Handler: w.twin, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
	conf := &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
	go func() { _ = srv.Serve(tls.NewListener(w.pipes, conf)) }()
	t.Cleanup(func() {
		_ = srv.Close()
		time.Sleep(time.Minute) // both sides of a pipe may be saying goodbye
	})
	return w
}

// pipes is a listener without a network.
type pipes struct {
	ch   chan net.Conn
	done chan struct{}
	once sync.Once
	cut  bool
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.ch:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error { p.once.Do(func() { close(p.done) }); return nil }

func (p *pipes) Addr() net.Addr { return &net.IPAddr{} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	if p.cut {
		return nil, errors.New("no route")
	}
	a, b := net.Pipe()
	select {
	case p.ch <- b:
		return a, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

// provider makes one; change may spoil it.
func (w *world) provider(change func(*Config)) *Provider {
	w.t.Helper()
	c := Config{Address: address, Login: Login{Method: JWT, Role: "alice"}}
	c.Issuer.Roots, c.Issuer.Dial = w.roots, w.pipes.dial
	c.Issuer.Logger = slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	change(&c)
	p, err := New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = p.Close() })
	return p
}

const credPath = "database/creds/reader"

// dynamic is a provider of a leased secret, with these lifetimes.
func (w *world) dynamic(r role) *Provider {
	w.t.Helper()
	r.subject, r.audience, r.may = aliceID, address, append(r.may, credPath)
	w.twin.roles["alice"] = r
	w.twin.engine = func() map[string]any {
		return map[string]any{"username": "u", "password": w.twin.next("pw-")}
	}
	return w.provider(func(c *Config) {
		c.Dynamic, c.Keys = &Dynamic{Path: credPath}, map[string]string{"user": "username", "token": "password"}
	})
}

func key(id string) credential.Key {
	return credential.Key{ID: spiffeid.RequireFromString(id), Provider: "db", Generation: "1"}
}

// get fetches for alice.
func (w *world) get(p *Provider) credential.Token {
	w.t.Helper()
	tok, err := p.Fetch(w.t.Context(), key(aliceID), w.alice)
	if err != nil {
		w.t.Fatal(err)
	}
	return tok
}

func value(tok credential.Token) string { return tok.Values["token"].Reveal() }

func (w *world) wantLive(tokens, leases int) {
	w.t.Helper()
	if gotTokens, gotLeases := w.twin.live(); gotTokens != tokens || gotLeases != leases {
		w.t.Errorf("%d client tokens and %d leases are alive, want %d and %d", gotTokens, gotLeases, tokens, leases)
	}
}

func wantError(t testing.TB, err error, k credential.Kind, words ...string) {
	t.Helper()
	e, ok := err.(*credential.Error) //nolint:errorlint // the outermost must be one
	if !ok || e.Kind != k {
		t.Fatalf("err = %v (%T), want %s", err, err, k)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%v, want %q in it", err, word)
		}
	}
	if strings.Contains(err.Error(), "hush") {
		t.Errorf("MUST C9: %v quotes", err)
	}
}
