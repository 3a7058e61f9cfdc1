// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package h1

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what must happen, on a busy machine too.
const patience = 20 * time.Second

// peer is the server's end of a connection, under a test's control.
type peer struct {
	t   testing.TB
	tls *tls.Conn
	br  *bufio.Reader
}

func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"a.example"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// pair connects a Conn with a peer, over TLS of at most a version.
func pair(t testing.TB, cl *Client, version uint16) (*Conn, *peer) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cert := certificate(t)
	accepted := make(chan *tls.Conn, 1)
	go func() {
		raw, err := l.Accept()
		if err != nil {
			accepted <- nil
			return
		}
		s := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: version})
		if s.Handshake() != nil {
			s = nil
		}
		accepted <- s
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	sock := NewSocket(raw)
	nc := tls.Client(sock, &tls.Config{RootCAs: roots, ServerName: "a.example", ClientSessionCache: tls.NewLRUClientSessionCache(1)})
	if err := nc.Handshake(); err != nil {
		t.Fatal(err)
	}
	s := <-accepted
	if s == nil {
		t.Fatal("no handshake")
	}
	c := cl.New(nc, sock, func() {})
	t.Cleanup(func() { _ = c.Close(); _ = s.Close() })
	_ = s.SetDeadline(time.Now().Add(patience))
	return c, &peer{t: t, tls: s, br: bufio.NewReader(s)}
}

// head reads a request's header. Where none comes it returns an empty request.
func (p *peer) head() *http.Request {
	r, err := http.ReadRequest(p.br)
	if err != nil {
		return &http.Request{Body: http.NoBody}
	}
	return r
}

func (p *peer) say(s string) { _, _ = io.WriteString(p.tls, s) }

// answering makes the peer read a request and say something, in a goroutine that the test
// waits for.
func (p *peer) answering(do func()) {
	over := make(chan struct{})
	go func() { defer close(over); do() }()
	p.t.Cleanup(func() { _ = p.tls.Close(); <-over })
}

func get(ctx context.Context) *http.Request {
	r := &http.Request{Method: "GET", URL: &url.URL{Path: "/x"}, Host: "a.example", Header: http.Header{"X-Token": {"S3CR-3T"}}}
	return r.WithContext(ctx)
}

func post(ctx context.Context, body io.Reader, length int64) *http.Request {
	r := get(ctx)
	r.Method, r.Body, r.ContentLength, r.ProtoMajor, r.ProtoMinor = "POST", io.NopCloser(body), length, 1, 1
	return r
}

// trip makes a request over the connection's place.
func trip(t testing.TB, c *Conn, r *http.Request) (*http.Response, error) {
	t.Helper()
	if err := c.Reserve(); err != nil {
		t.Fatal(err)
	}
	return c.RoundTrip(r, nil)
}

func read(t testing.TB, resp *http.Response, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}
