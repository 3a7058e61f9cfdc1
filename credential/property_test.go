// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"pgregory.net/rapid"

	"github.com/egret-proxy/egret/internal/secret"
)

// step is one thing that happens to a cache.
type step struct {
	What, Who, Gen int
	Wait           time.Duration
	Patience       time.Duration
}

const stepKinds = 6

var steps = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
	return step{
		What: rapid.IntRange(0, stepKinds-1).Draw(t, "what"), Who: rapid.IntRange(0, 4).Draw(t, "who"), Gen: rapid.IntRange(0, 2).Draw(t, "gen"),
		Wait:     time.Duration(rapid.IntRange(0, 60_000).Draw(t, "wait")) * time.Millisecond,
		Patience: time.Duration(rapid.IntRange(1, 15_000).Draw(t, "patience")) * time.Millisecond,
	}
}), 1, 60)

// moody takes its time, fails now and then, and remembers what it minted for whom.
type moody struct {
	mu     sync.Mutex
	n      int
	minted map[string]mintedFor // by fingerprint
	inAir  map[Key]bool
	wrong  string
}

type mintedFor struct {
	key Key
	end time.Time
}

func (p *moody) Fetch(ctx context.Context, k Key, _ Subject) (Token, error) {
	sent := time.Now()
	p.mu.Lock()
	p.n++
	n := p.n
	if p.inAir[k] {
		p.wrong = "two calls at a time for one key"
	}
	p.inAir[k] = true
	p.mu.Unlock()
	defer func() { p.mu.Lock(); p.inAir[k] = false; p.mu.Unlock() }()
	if !sleep(ctx, time.Duration(n*37%12)*time.Second) {
		return Token{}, ctx.Err()
	}
	switch n % 7 {
	case 3:
		return Token{}, &Error{Kind: Unreachable, Err: context.DeadlineExceeded}
	case 5:
		panic("moody")
	}
	life := time.Duration(6+n*53%40) * time.Second
	v := secret.New(fmt.Sprintf("%d for %+v", n, k))
	p.mu.Lock()
	p.minted[v.Fingerprint()] = mintedFor{k, sent.Add(life)}
	p.mu.Unlock()
	return Token{Values: map[string]secret.Secret{"token": v}, Lifetime: life}, nil
}

// check tells what is wrong with a value that was served now.
func (p *moody) check(k Key, v Credential) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m, ok := p.minted[v.Fingerprint()]
	switch {
	case !ok || m.key != k:
		p.wrong = fmt.Sprintf("%+v was served a value minted for %+v", k, m.key)
	case !time.Now().Before(m.end.Add(-expiryMargin)):
		p.wrong = fmt.Sprintf("served %s before its end", time.Until(m.end))
	}
}

func TestPropertyNeverAnothersNeverStale(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		todo := steps.Draw(rt, "steps")
		wrong := ""
		synctest.Test(t, func(t *testing.T) { wrong = play(t, todo) })
		if wrong != "" {
			rt.Fatal(wrong)
		}
	})
}

func play(t *testing.T, todo []step) string {
	p := &moody{minted: map[string]mintedFor{}, inAir: map[Key]bool{}}
	c := newCache(t, CacheOptions{Size: 4, PerWorkload: 2}, generation(t, p, 0), generation(t, p, 1))
	var wg sync.WaitGroup
	var retires []func()
	for _, s := range todo {
		k := Key{ID: spiffeid.RequireFromPathf(alice.TrustDomain(), "/w/%d", s.Who), Provider: "slack", Generation: fmt.Sprint(s.Gen)}
		switch s.What {
		case 0, 1, 2:
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), s.Patience)
				defer cancel()
				v, err := c.Credential(ctx, k, here)
				if err == nil {
					p.check(k, v)
					if s.What == 2 {
						c.Invalidate(k, v.Fingerprint())
					}
				}
			})
		case 3:
			retires = append(retires, c.Install([]Spec{generation(t, p, s.Gen), generation(t, p, s.Who%3)}))
		case 4:
			if n := len(retires); n > 0 {
				retires[s.Who%n]()
			}
		case 5:
			time.Sleep(s.Wait)
		}
	}
	wg.Wait()
	c.Close()
	return p.wrong
}

func generation(t *testing.T, p Provider, g int) Spec {
	s := specWith(t, p)
	s.Generation = fmt.Sprint(g)
	return s
}
