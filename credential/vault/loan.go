// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"sync"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/internal/secret"
)

const (
	// longest is the most that is counted on, whatever Vault grants (its default is 32
	// days): after that at most, a loan is looked at again.
	longest = 24 * time.Hour
	// grace is how long a secret that was replaced lives on: requests may still carry it.
	grace = 30 * time.Second
	// endTime is what ending a loan by itself may take.
	endTime = 5 * time.Second
)

// loan is a secret that Vault lends, with the client token that its lease hangs on. At
// most one Fetch works on it at a time; it may be ended at any time.
type loan struct {
	p   *Provider
	key credential.Key

	values map[string]secret.Secret

	mu     sync.Mutex
	ses    session
	lease  lease // id "": the secret is the client token
	since  time.Time
	given  time.Duration // from since, to the newest Token
	serial int           // of the newest Token
	over   bool          // given up: no Token comes of it any more
	timer  *time.Timer   // ends it when nobody has

	ending sync.Mutex // held while Vault is told
	ended  bool       // guarded by ending
}

// lend renews the newest loan of k, or makes one.
func (p *Provider) lend(ctx context.Context, k credential.Key, s credential.Subject) (credential.Token, error) {
	start := time.Now()
	if l := p.book.newest(k); l != nil && l.worn(start) {
		tok, err := p.renew(ctx, l, start)
		if err == nil || kindOf(err) == credential.Unreachable {
			return tok, err
		}
		p.log.Debug("another secret is read", "credential", k.Provider, "workload", k.ID.String(), "reason", err)
	}
	if err := p.book.room(); err != nil {
		return credential.Token{}, err
	}
	l, err := p.borrow(ctx, k, s)
	if err != nil {
		return credential.Token{}, err
	}
	if l.lease.id == "" && p.cfg.Dynamic != nil {
		p.drop(ctx, l.ses)
		return plain(l.values), nil
	}
	p.book.put(l)
	tok, _ := l.token(start)
	return tok, nil
}

// borrow logs in and reads.
func (p *Provider) borrow(ctx context.Context, k credential.Key, s credential.Subject) (*loan, error) {
	ses, err := p.login(ctx, s)
	if err != nil {
		return nil, err
	}
	l := &loan{p: p, key: k, ses: ses}
	switch {
	case ses.counted:
		err = fail(credential.NotMinted, "role %q must set no token_num_uses: a secret is lent only as long as its client token lives", p.cfg.Login.Role)
	case p.cfg.Dynamic != nil:
		l.values, l.lease, err = p.readDynamic(ctx, ses)
	default:
		l.values = map[string]secret.Secret{"token": ses.token}
	}
	if err != nil {
		p.drop(ctx, ses)
		return nil, err
	}
	return l, nil
}

// worn reports that so much of its life is over that a Fetch is one ahead of its end.
func (l *loan) worn(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.over && now.Sub(l.since) >= l.given*2/3
}

// renew prolongs the lease, and the client token where it would end before. An error
// that is not Unreachable means that this loan does not go on.
func (p *Provider) renew(ctx context.Context, l *loan, start time.Time) (credential.Token, error) {
	l.mu.Lock()
	ses, held := l.ses, l.lease
	l.mu.Unlock()
	var err error
	if held.id != "" {
		if held, err = p.renewLease(ctx, ses, held); err != nil {
			return credential.Token{}, err
		}
	}
	if !ses.ends.IsZero() && (held.id == "" || ses.ends.Before(held.ends)) {
		if ses, err = p.renewSelf(ctx, ses); err != nil {
			return credential.Token{}, err
		}
	}
	l.mu.Lock()
	l.ses, l.lease = ses, held
	l.mu.Unlock()
	tok, ok := l.token(start)
	if !ok {
		return credential.Token{}, fail(credential.NotMinted, "it was given up while it was renewed")
	}
	return tok, nil
}

// token makes the newest Token of a loan, counted from start. It is false where the loan
// was given up meanwhile.
func (l *loan) token(start time.Time) (credential.Token, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return credential.Token{}, false
	}
	life := l.life(start)
	l.serial++
	l.since, l.given = start, life
	if life == 0 {
		l.given = l.p.cfg.TTL
	}
	l.endAfter(l.given - time.Since(start))
	serial := l.serial
	return credential.Token{
		Values: l.values, Lifetime: life, Fingerprint: fingerprint(l.values),
		Revoke: func(ctx context.Context) error { return l.revoke(ctx, serial) },
	}, true
}

// life is how long both parts live, from start; zero: neither tells. The caller holds l.mu.
func (l *loan) life(start time.Time) time.Duration {
	life := time.Duration(0)
	for _, end := range []time.Time{l.ses.ends, l.lease.ends} {
		if end.IsZero() {
			continue
		}
		if d := max(end.Sub(start), time.Nanosecond); life == 0 || d < life {
			life = d
		}
	}
	return min(life, longest)
}

// endAfter has the loan ended unless it is renewed before. The caller holds l.mu.
func (l *loan) endAfter(d time.Duration) {
	if l.timer != nil {
		l.timer.Stop()
	}
	l.timer = time.AfterFunc(d, func() {
		ctx, cancel := context.WithTimeout(context.Background(), endTime)
		defer cancel()
		if err := l.end(ctx); err != nil {
			l.p.log.Debug("a lease is left to its own end", "credential", l.key.Provider, "workload", l.key.ID.String(), "error", err)
		}
	})
}

// revoke implements Token.Revoke. A Token that a later one has followed shares its lease
// with that one, which is alive.
func (l *loan) revoke(ctx context.Context, serial int) error {
	l.mu.Lock()
	stale := serial != l.serial
	l.mu.Unlock()
	if stale {
		return nil
	}
	return l.end(ctx)
}

// supersede has the loan ended soon.
func (l *loan) supersede() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	l.over = true
	l.endAfter(max(0, min(grace, l.given-time.Since(l.since))))
}

// end tells Vault, once; where Vault does not hear it, the timer tries again.
func (l *loan) end(ctx context.Context) error {
	l.mu.Lock()
	l.over = true
	ses, held := l.ses, l.lease
	l.mu.Unlock()
	l.p.book.remove(l)
	l.ending.Lock()
	defer l.ending.Unlock()
	if l.ended {
		return nil
	}
	if err := l.p.giveBack(ctx, ses, held); err != nil {
		return err
	}
	l.ended = true
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
	}
	return nil
}

// giveBack ends a lease and the client token that made it. Vault's default policy allows
// the second only, which does both; a batch token knows only the first.
func (p *Provider) giveBack(ctx context.Context, ses session, held lease) error {
	var leaseErr error
	if held.id != "" {
		if leaseErr = p.revokeLease(ctx, ses, held); kindOf(leaseErr) == credential.Unreachable && leaseErr != nil {
			return leaseErr
		}
	}
	if ses.batch {
		return leaseErr
	}
	err := p.revokeSelf(ctx, ses)
	if held.id != "" && leaseErr == nil {
		return nil // the secret has ended, which is what counts
	}
	return err
}
