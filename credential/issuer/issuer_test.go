// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package issuer_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/credential/issuer/issuertest"
)

// client asks a server that answers so.
func client(t *testing.T, answer http.HandlerFunc) (*issuer.Client, *issuertest.Server) {
	t.Helper()
	s := issuertest.NewServer(t, answer)
	c := issuer.New(s.Options())
	t.Cleanup(func() { _ = c.Close() })
	return c, s
}

func kind(t *testing.T, err error, want credential.Kind) *credential.Error {
	t.Helper()
	e, ok := err.(*credential.Error) //nolint:errorlint // the outermost must be one
	if !ok || e.Kind != want {
		t.Fatalf("%v (%T), want %s", err, err, want)
	}
	return e
}

func TestMUST_T9_RedirectsAreNotFollowed(t *testing.T) {
	for _, code := range []int{301, 302, 303, 307, 308} {
		c, s := client(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "https://elsewhere.example/", code) })
		a, err := c.PostForm(t.Context(), "https://issuer.example/", url.Values{"secret": {"x"}}, nil)
		if err != nil || a.Status != code || s.Asked() != 1 {
			t.Fatalf("%d: %v, asked %d times", code, err, s.Asked())
		}
		kind(t, a.Refusal("invalid_client", "invalid_client"), credential.NotMinted)
	}
}

func TestMUST_T10_OnlyOverVerifiedTLS(t *testing.T) {
	c, s := client(t, nil)
	for _, to := range []string{"http://issuer.example/", "ftp://issuer.example/", "issuer.example", "//issuer.example/", ":", ""} {
		_, err := c.PostJSON(t.Context(), to, `{}`, nil)
		kind(t, err, credential.Unconfigured)
	}
	plain := issuer.New(issuer.Options{Dial: s.Dial}) // the system's roots
	defer plain.Close()
	_, err := plain.PostJSON(t.Context(), "https://issuer.example/", `{}`, nil)
	if kind(t, err, credential.Unreachable); s.Asked() != 0 {
		t.Error("the server was asked")
	}
}

func TestMUST_T10_OldTLSIsRefused(t *testing.T) {
	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10} //nolint:gosec // what is refused
	old.Config.ErrorLog = log.New(io.Discard, "", 0)
	old.StartTLS()
	defer old.Close()
	roots := x509.NewCertPool()
	roots.AddCert(old.Certificate())
	c := issuer.New(issuer.Options{Roots: roots})
	defer c.Close()
	_, err := c.PostJSON(t.Context(), old.URL, `{}`, nil)
	kind(t, err, credential.Unreachable)
}

func TestProxyIsAskedOnlyWhereOneIsGiven(t *testing.T) {
	s := issuertest.NewServer(t, http.NotFoundHandler())
	o, asked := s.Options(), 0
	o.Proxy = func(*http.Request) (*url.URL, error) { asked++; return nil, errors.New("away") }
	c := issuer.New(o)
	defer c.Close()
	_, err := c.PostJSON(t.Context(), "https://issuer.example/", `{}`, nil)
	if kind(t, err, credential.Unreachable); asked != 1 || s.Asked() != 0 {
		t.Errorf("proxy asked %d times, server %d", asked, s.Asked())
	}
}

func TestHeadersAreAddedAndTheRequestIsLeftAlone(t *testing.T) {
	c, _ := client(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.Header.Get("X-One"), r.Header.Get("User-Agent"), r.Header.Get("Content-Type"), r.Header.Get("Accept"))
	})
	a, err := c.PostJSON(t.Context(), "https://issuer.example/", `{}`, http.Header{"X-One": {"1"}, "User-Agent": {"mine"}, "Accept": {"application/xml"}})
	if err != nil || string(a.Body) != "1mineapplication/jsonapplication/xml" {
		t.Errorf("%s, %v", a.Body, err)
	}
	req, _ := issuer.FormRequest(t.Context(), "https://issuer.example/", url.Values{"a": {"b"}})
	before := fmt.Sprint(req.Header)
	if _, err := c.Ask(req, nil); err != nil || fmt.Sprint(req.Header) != before {
		t.Errorf("%v, %v", err, req.Header)
	}
}

func TestBodyOfTheLimitIsTaken(t *testing.T) {
	size := issuer.MaxBody
	c, _ := client(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, size)) })
	if a, err := c.PostJSON(t.Context(), "https://issuer.example/", `{}`, nil); err != nil || len(a.Body) != size {
		t.Errorf("%v", err)
	}
	size++
	_, err := c.PostJSON(t.Context(), "https://issuer.example/", `{}`, nil)
	kind(t, err, credential.NotMinted)
}

func TestTheTimeOfOneCallIsBounded(t *testing.T) {
	s := issuertest.NewServer(t, nil)
	for _, f := range issuertest.Faults() {
		if f.Name != "silent" && f.Name != "endless" {
			continue
		}
		s.Break(&f)
		o := s.Options()
		o.Timeout = 200 * time.Millisecond
		c := issuer.New(o)
		start := time.Now()
		_, err := c.PostJSON(t.Context(), "https://issuer.example/", `{}`, nil)
		if kind(t, err, credential.Unreachable); time.Since(start) > 5*time.Second {
			t.Errorf("%s: %s", f.Name, time.Since(start))
		}
		_ = c.Close()
	}
}

// A call with a certificate has a connection of its own, which ends with it: nobody else
// may speak over it, and a thousand logins must not keep a thousand connections.
func TestCertificateIsShownOnAConnectionThatEnds(t *testing.T) {
	var shown, bare atomic.Int32
	c, _ := client(t, func(_ http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) == 1 && r.TLS.PeerCertificates[0].Subject.CommonName == "workload" {
			shown.Add(1)
		} else {
			bare.Add(1)
		}
	})
	cert := selfSigned(t)
	before := runtime.NumGoroutine()
	for range 20 {
		req, err := issuer.FormRequest(t.Context(), "https://issuer.example/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Ask(req, cert); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before+2; {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if _, err := c.PostJSON(t.Context(), "https://issuer.example/", `{}`, nil); err != nil {
		t.Fatal(err)
	}
	if shown.Load() != 20 || bare.Load() != 1 {
		t.Errorf("shown %d times, not shown %d times", shown.Load(), bare.Load())
	}
}

// A server that names other authorities is still shown what is configured.
func TestCertificateIsShownWhateverAuthoritiesAreNamed(t *testing.T) {
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200 + len(r.TLS.PeerCertificates))
	}))
	strangers := x509.NewCertPool()
	web.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, ClientCAs: strangers} //nolint:gosec // of a test
	web.EnableHTTP2 = true
	web.StartTLS()
	defer web.Close()
	strangers.AddCert(web.Certificate())
	c := issuer.New(issuer.Options{Roots: strangers})
	defer c.Close()
	req, _ := issuer.FormRequest(t.Context(), web.URL, nil)
	if a, err := c.Ask(req, selfSigned(t)); err != nil || a.Status != 201 {
		t.Errorf("%+v, %v", a, err)
	}
}

func selfSigned(t *testing.T) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "workload"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, x, x, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestMUST_C5_ClockThatDiffersIsWarnedAbout(t *testing.T) {
	var date time.Duration
	c, s := client(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(date).UTC().Format(http.TimeFormat))
	})
	for _, date = range []time.Duration{0, 50 * time.Second, -50 * time.Second} {
		if _, err := c.PostJSON(t.Context(), "https://issuer.example/", `{}`, nil); err != nil || s.Log() != "" {
			t.Errorf("%s: %v, %s", date, err, s.Log())
		}
	}
	for _, date = range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		_, err := c.PostJSON(t.Context(), "https://issuer.example/", `{}`, nil)
		if want := fmt.Sprintf("host=issuer.example ahead=%dm", int(date.Minutes())); err != nil && !strings.Contains(s.Log(), want) {
			t.Errorf("%v, %s; want %s", err, s.Log(), want)
		}
	}
}
