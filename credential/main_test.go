// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"

	"github.com/egret-proxy/egret/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// issuer is a Provider in the test's hands. Each value names the key it was minted for.
type issuer struct {
	mu       sync.Mutex
	calls    int
	lifetime time.Duration
	takes    time.Duration // to answer
	err      error
	value    func(k Key, n int) string
	act      func(ctx context.Context) // runs in Fetch
	subjects []Subject
	inAir    map[Key]int
	overlap  bool // two calls of one key at a time
	closed   int
}

func (p *issuer) Fetch(ctx context.Context, k Key, s Subject) (Token, error) {
	p.mu.Lock()
	p.calls++
	n, takes, err, life, act, value := p.calls, p.takes, p.err, p.lifetime, p.act, p.value
	p.subjects = append(p.subjects, s)
	if p.inAir == nil {
		p.inAir = map[Key]int{}
	}
	p.inAir[k]++
	p.overlap = p.overlap || p.inAir[k] > 1
	p.mu.Unlock()
	defer func() { p.mu.Lock(); p.inAir[k]--; p.mu.Unlock() }()
	if act != nil {
		act(ctx)
	}
	if !sleep(ctx, takes) {
		return Token{}, ctx.Err()
	}
	if err != nil {
		return Token{}, err
	}
	text := fmt.Sprintf("tok-%d-for-%s", n, k.ID)
	if value != nil {
		text = value(k, n)
	}
	return Token{Values: map[string]secret.Secret{"token": secret.New(text)}, Lifetime: life}, nil
}

func (p *issuer) Close() error { p.mu.Lock(); defer p.mu.Unlock(); p.closed++; return nil }

func (p *issuer) count() int { p.mu.Lock(); defer p.mu.Unlock(); return p.calls }

func (p *issuer) set(f func(p *issuer)) { p.mu.Lock(); defer p.mu.Unlock(); f(p) }

// person is a Subject on the heap.
type person struct{ name string }

func (*person) JWTSVID(context.Context, string) (secret.Secret, time.Time, error) {
	return secret.Secret{}, time.Time{}, errors.New("not held")
}
func (*person) X509SVID(context.Context) (tls.Certificate, error) {
	return tls.Certificate{}, errors.New("not held")
}

var alice, bob = spiffeid.RequireFromString("spiffe://acme.example/alice"), spiffeid.RequireFromString("spiffe://acme.example/bob")

func keyOf(id spiffeid.ID) Key { return Key{ID: id, Provider: "slack", Generation: "g1"} }

func bearer(t testing.TB) []Injection {
	t.Helper()
	in, err := NewInjection(InjectionConfig{Header: "Authorization", Value: "Bearer {token}"})
	if err != nil {
		t.Fatal(err)
	}
	return []Injection{in}
}

func specWith(t testing.TB, p Provider) Spec {
	return Spec{Name: "slack", Generation: "g1", Provider: p, Inject: bearer(t), TTL: time.Hour}
}

func newCache(t testing.TB, o CacheOptions, specs ...Spec) *Cache {
	t.Helper()
	c, err := NewCache(o)
	if err != nil {
		t.Fatal(err)
	}
	c.Install(specs)
	return c
}

// inBubble runs f with a cache around p under fake time, and closes it.
func inBubble(t *testing.T, p *issuer, change func(*Spec), f func(t *testing.T, c *Cache)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := specWith(t, p)
		if change != nil {
			change(&s)
		}
		c := newCache(t, CacheOptions{}, s)
		defer c.Close()
		f(t, c)
	})
}

var here = &person{"here"} // a caller that stays

func get(t *testing.T, c *Cache, k Key) Credential {
	t.Helper()
	v, err := c.Credential(t.Context(), k, here)
	if err != nil {
		t.Fatalf("Credential: %v", err)
	}
	return v
}

func getError(t *testing.T, c *Cache, k Key, want Kind) *Error {
	t.Helper()
	v, err := c.Credential(t.Context(), k, here)
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("Credential = %v, %v; want an *Error", v, err)
	}
	if v != nil || e.Kind != want {
		t.Fatalf("Credential = %v, kind %s (%v); want none, %s", v, e.Kind, e, want)
	}
	return e
}
