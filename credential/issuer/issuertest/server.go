// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package issuertest breaks issuers in every way in which they break, and holds a
// provider to the outcome. A test brings a twin of its issuer, which refuses what the
// real one refuses; the Matrix puts the faults before it.
package issuertest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/egret-proxy/egret/credential/issuer"
)

// Server is an issuer over TLS on loopback. It has every name that it is asked by, asks
// for a client certificate without checking one, and answers as its twin does until it
// is broken. It speaks HTTP/1.1, in which more can be wrong. Safe for concurrent use.
type Server struct {
	Roots *x509.CertPool // that verify it

	web   *httptest.Server
	twin  http.Handler
	at    string
	fault atomic.Pointer[Fault]
	asked atomic.Int64
	log   logText
	ca    *authority
	other *authority // whom nobody trusts
}

// NewServer starts one until the test's end.
func NewServer(t testing.TB, twin http.Handler) *Server {
	t.Helper()
	s := &Server{Roots: x509.NewCertPool(), twin: twin, ca: newAuthority(t), other: newAuthority(t)}
	s.Roots.AddCert(s.ca.cert)
	s.web = httptest.NewUnstartedServer(s)
	s.web.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.web.TLS = &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert, GetCertificate: s.certificate}
	s.web.StartTLS()
	t.Cleanup(func() {
		s.web.CloseClientConnections() // a fault may hold one for ever
		s.web.Close()
	})
	return s
}

// Dial connects to the server, whatever is named.
func (s *Server) Dial(ctx context.Context, network, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, s.Addr())
}

// Addr is the server's "host:port" on loopback.
func (s *Server) Addr() string { return s.web.Listener.Addr().String() }

// Options reach the server from any URL, and log into Log.
func (s *Server) Options() issuer.Options {
	return issuer.Options{Roots: s.Roots, Dial: s.Dial, Timeout: 20 * time.Second, Logger: s.Logger()}
}

// Logger writes into Log.
func (s *Server) Logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(&s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Log is what was logged so far.
func (s *Server) Log() string { return s.log.String() }

// Asked is how many requests have come, broken ones included.
func (s *Server) Asked() int { return int(s.asked.Load()) }

// Break answers all requests so from now on; a fault of the certificate is seen by new
// connections. Nil mends.
func (s *Server) Break(f *Fault) { s.fault.Store(f) }

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked.Add(1)
	if f := s.fault.Load(); f != nil && f.answer != nil && (s.at == "" || s.at == r.URL.Path) {
		f.answer(w, r, s.twin)
		return
	}
	s.twin.ServeHTTP(w, r)
}

func (s *Server) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name, ca, end := hello.ServerName, s.ca, time.Now().Add(time.Hour)
	if f := s.fault.Load(); f != nil {
		switch f.certificate {
		case strangersCertificate:
			ca = s.other
		case expiredCertificate:
			end = time.Now().Add(-time.Hour)
		case othersCertificate:
			name = "other." + name
		}
	}
	return ca.issue(name, end)
}

// authority is a CA of one test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "issuers of a test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return &authority{cert: ca, key: key}
}

func (a *authority) issue(name string, end time.Time) (*tls.Certificate, error) {
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: end.Add(-12 * time.Hour), NotAfter: end,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(name); ip != nil || name == "" {
		leaf.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	} else {
		leaf.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, a.cert, a.key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}, nil
}

// logText is a bytes.Buffer for several writers.
type logText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
