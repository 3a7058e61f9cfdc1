// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package kubetoken

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sync/singleflight"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/internal/secret"
)

// verdict is what one review has come to, immutable.
type verdict struct {
	at      time.Time // when it was asked for
	id      spiffeid.ID
	podUID  string
	expires time.Time // of the token
	err     error     // why the token is refused
}

// reviews remembers verdicts by the digest of the token, and asks once for several
// that want to know at once. It holds no token.
type reviews struct {
	age    time.Duration
	ask    func(context.Context, secret.Secret) (*verdict, error)
	known  *lru.Cache[[sha256.Size]byte, *verdict]
	flight singleflight.Group
}

func newReviews(size int, age time.Duration, ask func(context.Context, secret.Secret) (*verdict, error)) *reviews {
	known, _ := lru.New[[sha256.Size]byte, *verdict](size) // fails only for a size below one
	return &reviews{age: age, ask: ask, known: known}
}

// askTime bounds one review. It goes on for the others when one of those who wait leaves.
const askTime = 5 * time.Second

// get returns a verdict that is not older than age, asking where there is none.
func (r *reviews) get(ctx context.Context, token secret.Secret) (*verdict, error) {
	digest := sha256.Sum256([]byte(token.Reveal()))
	if v, ok := r.known.Get(digest); ok && time.Since(v.at) < r.age {
		return v, nil
	}
	done := r.flight.DoChan(string(digest[:]), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTime)
		defer cancel()
		v, err := r.ask(ctx, token)
		if err == nil {
			r.known.Add(digest, v)
		}
		return v, err
	})
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: the API server has not answered in time: %w", identity.ErrUnavailable, ctx.Err())
	case res := <-done:
		if res.Err != nil {
			return nil, res.Err
		}
		return res.Val.(*verdict), nil //nolint:forcetypeassert // what the flight above returns
	}
}

// caller is one connection. It keeps the token to have it reviewed again.
type caller struct {
	r       *Resolver
	token   secret.Secret
	id      spiffeid.ID
	podUID  string
	expires time.Time
	last    atomic.Pointer[verdict]
	asking  atomic.Bool
}

// Workload implements identity.Caller. Within the age of the last review it takes no
// lock; in the second half of it the next review is asked for ahead. It waits for one
// only after a pause that was longer, as it must then. Expires is the token's.
func (c *caller) Workload() (identity.Workload, error) {
	if err := c.ended(); err != nil {
		return identity.Workload{}, err
	}
	v := c.last.Load()
	age := time.Since(v.at)
	switch {
	case age >= c.r.options.Age:
		if err := c.again(); err != nil {
			return identity.Workload{}, err
		}
		v = c.last.Load()
	case age >= c.r.options.Age/2 && c.asking.CompareAndSwap(false, true):
		go func() {
			defer c.asking.Store(false)
			_ = c.renew()
		}()
	}
	switch {
	case v.err != nil:
		if err := c.ended(); err != nil { // while the server was asked, and that is why it refuses
			return identity.Workload{}, err
		}
		return identity.Workload{}, fmt.Errorf("%w: %w", identity.ErrRevoked, hide(v.err))
	case v.id != c.id || v.podUID != c.podUID:
		return identity.Workload{}, fmt.Errorf("%w: the token was of %q and is of %q now", identity.ErrRevoked, c.id, v.id)
	}
	return identity.Workload{ID: c.id, Evidence: identity.EvidenceToken, Expires: c.expires}, nil
}

// ended says that the token's time is over.
func (c *caller) ended() error {
	if time.Now().Before(c.expires) {
		return nil
	}
	return fmt.Errorf("%w: the token ended at %s", identity.ErrExpired, c.expires.UTC().Format(time.RFC3339))
}

type hidden struct{ error }

// hide keeps the text of an error and not its kind.
func hide(err error) error { return hidden{err} }

func (hidden) Unwrap() error { return nil }

func (c *caller) again() error {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	v, err := c.r.reviews.get(ctx, c.token)
	if err == nil {
		c.last.Store(v)
	}
	return err
}

// renew asks although what is known is not too old yet.
func (c *caller) renew() error {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	v, err := c.r.reviews.fresh(ctx, c.token)
	if err == nil {
		c.last.Store(v)
	}
	return err
}

// fresh is get for one who wants a verdict of the newer half of its age.
func (r *reviews) fresh(ctx context.Context, token secret.Secret) (*verdict, error) {
	young := reviews{age: r.age / 2, ask: r.ask, known: r.known}
	return young.get(ctx, token)
}

// JWTSVID implements identity.Caller: the API server issues no SVIDs, and the token that
// was sent to this proxy is never handed on (MUST I10).
func (*caller) JWTSVID(context.Context, string) (secret.Secret, time.Time, error) {
	return secret.Secret{}, time.Time{}, identity.ErrNotHeld
}

// X509SVID implements identity.Caller.
func (*caller) X509SVID(context.Context) (tls.Certificate, error) {
	return tls.Certificate{}, identity.ErrNotHeld
}
