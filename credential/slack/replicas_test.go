// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package slack

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/internal/secret"
)

// pipes is a network in memory, which synctest sees to the bottom of.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.done:
		return nil, net.ErrClosed
	}
}

// serve runs a twin as slack.com, and says how it is reached.
func serve(t *testing.T, s *twin) issuer.Options {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"slack.com"}, NotBefore: time.Now(), NotAfter: time.Now().Add(1000 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, x, x, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	net := newPipes()
	web := &http.Server{Handler: s, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
	cert := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	go func() {
		_ = web.Serve(tls.NewListener(net, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}))
	}()
	t.Cleanup(func() { _ = web.Close() })
	return issuer.Options{Roots: roots, Dial: net.dial}
}

// replica is one egret: a provider of its own behind a cache of its own.
type replica struct {
	cache *credential.Cache
	key   credential.Key
}

func newReplica(t *testing.T, path string, o issuer.Options) *replica {
	t.Helper()
	p, err := New(config(path, o))
	if err != nil {
		t.Fatal(err)
	}
	in, err := credential.NewInjection(credential.InjectionConfig{Header: "Authorization", Value: "Bearer {token}"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := credential.NewCache(credential.CacheOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.Install([]credential.Spec{{Name: "slack", Generation: "1", Provider: p, Inject: []credential.Injection{in}, Shared: true}})
	return &replica{cache: c, key: credential.Key{Provider: "slack", Generation: "1"}}
}

// send is one request of an application: it tells what Slack says.
func (r *replica) send(t *testing.T, s *twin) bool {
	t.Helper()
	v, err := r.cache.Credential(t.Context(), r.key, nil)
	if err != nil {
		t.Logf("%s: %v", time.Now().Format(time.TimeOnly), err)
		return false
	}
	req, _ := http.NewRequest(http.MethodGet, "https://slack.com/api/auth.test", nil)
	if err := v.Apply(req); err != nil {
		t.Fatal(err)
	}
	ok := s.accepts(req.Header.Get("Authorization")[len("Bearer "):])
	if !ok {
		r.cache.Invalidate(r.key, v.Fingerprint())
	}
	return ok
}

// Two replicas use one installation for an hour in which its tokens live for five
// minutes: none is used twice, none is lost, and no request goes without.
func TestMUST_C6_C14_TwoReplicasShareOneTokenForAnHour(t *testing.T) {
	path := stateFile(t)
	synctest.Test(t, func(t *testing.T) {
		s := newTwin(5 * time.Minute)
		o := serve(t, s)
		a, b := newReplica(t, path, o), newReplica(t, path, o)
		defer a.cache.Close()
		defer b.cache.Close()
		for range 3600 {
			var wg sync.WaitGroup
			for _, r := range []*replica{a, b} {
				wg.Go(func() {
					if !r.send(t, s) {
						t.Error("a request was refused")
					}
				})
			}
			wg.Wait()
			time.Sleep(time.Second)
		}
		if s.reused != 0 || s.revoked || s.n < 12 || s.n > 24 || len(s.bad) > 0 {
			t.Errorf("%d rotations, %d tokens used twice, revoked: %t; %q", s.n, s.reused, s.revoked, s.bad)
		}
	})
}

// A replica that is restarted now and then, at the worst moments of its caches.
func TestMUST_C14_ARestartedReplicaReadsTheAccessToken(t *testing.T) {
	path := stateFile(t)
	synctest.Test(t, func(t *testing.T) {
		s := newTwin(time.Hour)
		o := serve(t, s)
		for range 20 {
			r := newReplica(t, path, o)
			if !r.send(t, s) {
				t.Error("a request was refused")
			}
			r.cache.Close()
			time.Sleep(time.Minute)
		}
		if s.n != 1 || s.reused != 0 {
			t.Errorf("%d rotations for 20 restarts in 20 minutes", s.n)
		}
	})
}

// The destination refuses a token before its end: it is rotated, once, and not in a loop.
func TestMUST_C7_ATokenThatSlackRefusesIsRotated(t *testing.T) {
	path := stateFile(t)
	synctest.Test(t, func(t *testing.T) {
		s := newTwin(time.Hour)
		r := newReplica(t, path, serve(t, s))
		defer r.cache.Close()
		if !r.send(t, s) {
			t.Fatal("refused")
		}
		time.Sleep(2 * time.Minute)
		s.mu.Lock()
		clear(s.valid)
		s.mu.Unlock()
		if r.send(t, s) {
			t.Fatal("taken")
		}
		if !r.send(t, s) || s.n != 2 || s.reused != 0 {
			t.Errorf("%d rotations", s.n)
		}
	})
}

// The process that asks is killed after Slack has answered and before the pair is stored:
// the one that comes next does not use the refresh token again, uses the access token
// that still lives, and says what a person must do.
func TestMUST_C6_CrashBetweenAnswerAndStore(t *testing.T) {
	path := stateFile(t)
	synctest.Test(t, func(t *testing.T) {
		s := newTwin(12 * time.Hour)
		o := serve(t, s)
		p, err := New(config(path, o))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Fetch(t.Context(), credential.Key{}, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Hour)
		if _, err := p.refreshUnstored(t); err != nil { // Slack has rotated, nothing is stored
			t.Fatal(err)
		}
		_ = p.Close()
		r := newReplica(t, path, o)
		defer r.cache.Close()
		for range 170 { // the rest of the old token's life but the last chance
			if !r.send(t, s) {
				t.Fatalf("the old token is valid for hours, and was not used at %s", time.Now())
			}
			time.Sleep(time.Minute)
		}
		if s.reused != 0 || s.revoked {
			t.Errorf("the refresh token was used again %d times", s.reused)
		}
	})
}

// refreshUnstored does what a process does until it is killed.
func (p *Provider) refreshUnstored(t *testing.T) (secret.Secret, error) {
	st, err := p.cfg.Store.Load(t.Context())
	if err != nil {
		return secret.Secret{}, err
	}
	st.Asked = time.Now()
	if err := p.cfg.Store.Save(t.Context(), st); err != nil {
		return secret.Secret{}, err
	}
	g, err := p.refresh(t.Context(), st.Refresh)
	return g.Access, err
}
