// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"
)

const (
	defaultCacheSize = 4096
	defaultMintRate  = 100             // leaves a second
	mintTimeout      = 5 * time.Second // of one flight; callers may leave earlier
	renewWait        = time.Second     // how long a caller waits for a renewal that is late
	renewPause       = time.Minute     // between attempts to renew one leaf
)

// AuthorityOptions configure an Authority.
type AuthorityOptions struct {
	Issuer     Issuer
	Listed     func(host string) bool // policy's table; asked on every call, concurrently, and must not block
	LeafTTL    time.Duration          // default and maximum MaxLeafTTL
	CacheSize  int                    // leaves that are kept, the least used goes first; default 4096
	MintRate   float64                // leaves made a second, twice as many in a burst; default 100
	Registerer prometheus.Registerer  // nil: count, but tell nobody
}

// Authority gives TLS handshakes their leaves. All leaves share one key, made from
// crypto/rand when the process starts, so that a new host costs one signature
// (MUST K1). It is safe for concurrent use.
type Authority struct {
	issuer  Issuer
	listed  func(string) bool
	ttl     time.Duration
	key     *ecdsa.PrivateKey
	cache   *lru.Cache[string, *leaf]
	flights singleflight.Group
	bucket  *bucket
	metrics *metrics

	ctx    context.Context // of the work behind the callers; ends with Close
	cancel context.CancelFunc
	mu     sync.Mutex // guards running.Add against Close
	closed bool
	run    sync.WaitGroup
}

// NewAuthority makes the leaf key and the cache. Close it to end its background work.
func NewAuthority(opt AuthorityOptions) (*Authority, error) {
	if opt.Issuer == nil || opt.Listed == nil {
		return nil, errors.New("an authority needs an issuer and policy's table of hosts")
	}
	ttl, err := lifetime(opt.LeafTTL, MaxLeafTTL, MaxLeafTTL)
	if err != nil {
		return nil, fmt.Errorf("leafTTL: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the leaf key: %w", err)
	}
	cache, err := lru.New[string, *leaf](positiveOr(opt.CacheSize, defaultCacheSize))
	if err != nil {
		return nil, fmt.Errorf("make the leaf cache: %w", err)
	}
	m, err := newMetrics(opt.Registerer, opt.Issuer)
	if err != nil {
		return nil, fmt.Errorf("register the metrics of the leaf cache: %w", err)
	}
	rate := positiveOr(opt.MintRate, defaultMintRate)
	a := &Authority{issuer: opt.Issuer, listed: opt.Listed, ttl: ttl, key: key, cache: cache, metrics: m,
		bucket: newBucket(rate, max(1, 2*rate))}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	return a, nil
}

// Leaf returns the certificate to present for the host, which must be canonical and
// listed by policy (MUST K3). A leaf of the cache costs no allocation; concurrent calls
// for a new host cause one signature. The certificate must not be changed.
//
// ErrNotListed, ErrInvalidHost, ErrNotPermitted, ErrExpired, ErrBusy and ErrClosed say
// why there is none. A cached leaf goes on until its own end while the issuer is out of
// reach (MUST K6).
func (a *Authority) Leaf(ctx context.Context, host string) (*tls.Certificate, error) {
	if !a.listed(host) {
		a.metrics.refused.Inc()
		return nil, fmt.Errorf("%w: %q", ErrNotListed, host)
	}
	now := time.Now()
	if l, ok := a.cache.Get(host); ok && now.Before(l.cert.Leaf.NotAfter) {
		a.metrics.hit.Inc()
		switch {
		case !l.due(now):
		case l.late.Before(now):
			a.await(ctx, a.fly(host))
			return a.newest(host, l), nil
		default:
			a.fly(host)
		}
		return l.cert, nil
	}
	cert, err := a.first(ctx, host)
	if err != nil {
		a.metrics.refused.Inc()
		return nil, err
	}
	a.metrics.miss.Inc()
	return cert, nil
}

// Purge forgets all leaves: for an intermediate that must not be used any more.
func (a *Authority) Purge() { a.cache.Purge() }

// Close ends the background work and waits for it. Cached leaves are still given out.
func (a *Authority) Close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.cancel()
	a.run.Wait()
}

// newest returns what the cache holds now; l where that was dropped meanwhile.
func (a *Authority) newest(host string, l *leaf) *tls.Certificate {
	if now, ok := a.cache.Peek(host); ok {
		return now.cert
	}
	return l.cert
}

// await waits shortly for a leaf that is late.
func (a *Authority) await(ctx context.Context, flight <-chan singleflight.Result) {
	timer := time.NewTimer(renewWait)
	defer timer.Stop()
	select {
	case <-flight:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// first waits for the first leaf of a host.
func (a *Authority) first(ctx context.Context, host string) (*tls.Certificate, error) {
	select {
	case r := <-a.fly(host):
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*leaf).cert, nil //nolint:forcetypeassert // what the flight above returns
	case <-ctx.Done():
		return nil, fmt.Errorf("leaf for %q: %w", host, ctx.Err())
	}
}

// fly joins or starts the one flight of a host. Nobody needs to read the result.
func (a *Authority) fly(host string) <-chan singleflight.Result {
	return a.flights.DoChan(host, func() (any, error) {
		if !a.begin() {
			return nil, ErrClosed
		}
		defer a.run.Done()
		if l, ok := a.cache.Peek(host); ok && time.Now().Before(l.half) {
			return l, nil // an earlier flight has landed since the caller looked
		}
		return a.mint(host)
	})
}

func (a *Authority) begin() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.run.Add(1)
	}
	return !a.closed
}

// mint has one leaf signed, checks it and keeps it.
func (a *Authority) mint(host string) (*leaf, error) {
	if err := checkHost(host); err != nil {
		return nil, err
	}
	if !a.bucket.take() {
		return nil, fmt.Errorf("%w: %q", ErrBusy, host)
	}
	ctx, cancel := context.WithTimeout(a.ctx, mintTimeout)
	defer cancel()
	begin := time.Now()
	chain, err := a.issuer.Issue(ctx, host, a.key.Public(), a.ttl)
	if err != nil {
		return nil, fmt.Errorf("leaf for %q: %w", host, err)
	}
	cert, err := checkLeaf(chain, host, a.key.Public())
	if err != nil {
		return nil, fmt.Errorf("leaf for %q: the issuer's answer is refused: %w", host, err)
	}
	a.metrics.mint.Observe(time.Since(begin).Seconds())
	l := newLeaf(&tls.Certificate{Certificate: chain, PrivateKey: a.key, Leaf: cert})
	a.cache.Add(host, l)
	return l, nil
}

func positiveOr[T int | float64](v, byDefault T) T {
	if v > 0 {
		return v
	}
	return byDefault
}
