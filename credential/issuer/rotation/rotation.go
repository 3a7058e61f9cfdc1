// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/internal/secret"
)

// Asker exchanges a refresh token at its issuer. Its time is bounded by ctx, which does
// not end when the caller goes away: an answer that nobody waits for would be lost.
type Asker func(ctx context.Context, refresh secret.Secret) (Grant, error)

// Options of a Rotor.
type Options struct {
	Store Store
	Lease Lease
	Ask   Asker
	Timing
	Logger *slog.Logger // nil: silent
}

// Timing is what the issuer does not tell.
type Timing struct {
	// Life is that of an access token whose issuer tells none; default: an hour.
	Life time.Duration
	// Grace is for how long after its first use the issuer takes a refresh token again,
	// and gives the same or another pair. Zero: never, a second use may end everything.
	Grace time.Duration
}

// Rotor hands out the access token of one State, and rotates it when it is time. Safe for
// concurrent use.
type Rotor struct {
	opt  Options
	turn chan struct{} // guards what follows

	unsaved *State // a pair that was got and not stored: it must not be used, nor lost
	given   given
}

// given is the access token that was handed out last.
type given struct {
	fingerprint string
	at          time.Time
	life        time.Duration
}

// askTime is for one question; together with what is stored before and after it stays
// below LeaseTime.
const askTime = 10 * time.Second

// New makes a Rotor. Nothing is loaded yet.
func New(o Options) (*Rotor, error) {
	if o.Store == nil || o.Lease == nil || o.Ask == nil {
		return nil, errors.New("a rotation needs a store, a lease and an issuer")
	}
	if o.Life <= 0 {
		o.Life = time.Hour
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Rotor{opt: o, turn: make(chan struct{}, 1)}, nil
}

// Token returns the access token. Errors are *credential.Error: Refused where a person
// has to put a new refresh token, else as the issuer is. A value that still lives is
// returned where it cannot be replaced, once: asked again, Token tells why.
func (r *Rotor) Token(ctx context.Context) (credential.Token, error) {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return credential.Token{}, unreachable("waiting for a turn", ctx.Err())
	}
	st, err := r.opt.Store.Load(ctx)
	if err != nil {
		return credential.Token{}, issuer.Within("stored refresh token", err)
	}
	now := time.Now()
	refused := r.refused(&st, now)
	if st.fresh(now) && !refused && r.unsaved == nil {
		return r.give(&st)
	}
	next, err := r.rotate(ctx, refused)
	switch {
	case err == nil:
		return r.give(&next)
	case st.alive(time.Now(), margin) && st.Access.Fingerprint() != r.given.fingerprint:
		r.opt.Logger.Warn("access token not replaced: the old one is used on", "expires", st.Expires, "error", err)
		return r.give(&st)
	}
	return credential.Token{}, err
}

// refused guesses that the token handed out last was dropped because its destination
// refuses it: nobody asks for it again so early otherwise.
func (r *Rotor) refused(st *State, now time.Time) bool {
	return !st.Access.IsZero() && st.Access.Fingerprint() == r.given.fingerprint &&
		now.Sub(r.given.at) < r.given.life/2 && now.Sub(st.Obtained) > time.Minute
}

func (r *Rotor) give(st *State) (credential.Token, error) {
	now := time.Now()
	left := st.Expires.Sub(now)
	if left <= 0 {
		return credential.Token{}, &credential.Error{Kind: credential.NotMinted, Err: errors.New("the access token has no life left")}
	}
	r.given = given{fingerprint: st.Access.Fingerprint(), at: now, life: left}
	return credential.Token{Values: map[string]secret.Secret{"token": st.Access}, Lifetime: left}, nil
}

// rotate makes this process the one writer, unless another one has rotated meanwhile.
func (r *Rotor) rotate(ctx context.Context, refused bool) (State, error) {
	release, err := r.opt.Lease.Acquire(ctx)
	if err != nil {
		return State{}, issuer.Within("lease of the refresh token", err)
	}
	defer release()
	st, err := r.opt.Store.Load(ctx)
	if err != nil {
		return State{}, issuer.Within("stored refresh token", err)
	}
	if r.unsaved != nil {
		return r.keep(ctx, *r.unsaved)
	}
	now := time.Now()
	if st.fresh(now) && !(refused && st.Access.Fingerprint() == r.given.fingerprint) {
		return st, nil
	}
	if err := r.mayAsk(&st, now); err != nil {
		return State{}, err
	}
	return r.ask(ctx, st)
}

// mayAsk keeps a refresh token from a second use that could end an access token which
// still lives: an issuer that sees a token twice takes it for stolen.
func (r *Rotor) mayAsk(st *State, now time.Time) error {
	switch {
	case st.Refresh.IsZero():
		return refusal("there is no refresh token: put one into the store")
	case st.Spent:
		return refusal("the issuer has refused the refresh token: put a new one into the store")
	case st.Asked.IsZero(), now.Sub(st.Asked) < r.opt.Grace, !st.alive(now, lastChance):
		return nil
	}
	r.opt.Logger.Error("refresh token may be lost: it was used, and the answer is not known",
		"asked", st.Asked, "access_token_ends", st.Expires, "hint", "put a new refresh token into the store before that")
	return refusal("the refresh token was used at %s and the answer is not known: put a new one into the store before %s",
		st.Asked.UTC().Format(time.RFC3339), st.Expires.UTC().Format(time.RFC3339))
}

// ask stores that the token is used, uses it, and stores what comes of it (MUST C6). From
// the first of these on, a caller that goes away does not stop it.
func (r *Rotor) ask(ctx context.Context, st State) (State, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTime)
	defer cancel()
	before, again := st, !st.Asked.IsZero()
	now := time.Now()
	st.Asked = now
	if err := r.opt.Store.Save(ctx, st); err != nil {
		return State{}, unreachable("the state cannot be stored, so the issuer is not asked", err)
	}
	g, err := r.opt.Ask(ctx, st.Refresh)
	if err != nil {
		return State{}, r.failed(ctx, before, err)
	}
	if again {
		r.opt.Logger.Warn("refresh token recovered: it was used before and still worked")
	}
	return r.keep(ctx, r.next(&st, g, now))
}

func (r *Rotor) next(st *State, g Grant, sent time.Time) State {
	next := State{Refresh: g.Refresh, Access: g.Access, Obtained: sent, Expires: sent.Add(r.opt.Life)}
	if next.Refresh.IsZero() {
		next.Refresh = st.Refresh
	}
	const absurd = 30 * 24 * time.Hour // MUST C5
	if g.Lifetime > 0 && g.Lifetime <= absurd {
		next.Expires = sent.Add(g.Lifetime)
	}
	return next
}

// failed stores what is known after the issuer has not answered well.
func (r *Rotor) failed(ctx context.Context, before State, err error) error {
	switch {
	case errors.Is(err, ErrUntouched): // as it was
	case errors.Is(err, ErrSpent):
		before.Spent = true
		r.opt.Logger.Error("refresh token refused by its issuer", "used_before", !before.Asked.IsZero(), "access_token_ends", before.Expires,
			"hint", "put a new refresh token into the store")
	default:
		return issuer.Within("refresh", err) // Asked stays
	}
	if serr := r.opt.Store.Save(context.WithoutCancel(ctx), before); serr != nil {
		err = issuer.Within("and the state cannot be stored", err)
	}
	return issuer.Within("refresh", err)
}

// keep stores a pair. One that cannot be stored is neither used nor forgotten: the next
// call tries again.
func (r *Rotor) keep(ctx context.Context, next State) (State, error) {
	if err := r.opt.Store.Save(context.WithoutCancel(ctx), next); err != nil {
		r.unsaved = &next
		r.opt.Logger.Error("new refresh token is not stored yet, and must not be lost: make room", "error", err)
		return State{}, unreachable("the new refresh token cannot be stored, so it is not used", err)
	}
	r.unsaved = nil
	return next, nil
}

func refusal(format string, args ...any) error {
	return &credential.Error{Kind: credential.Refused, Err: fmt.Errorf(format, args...)}
}

func unreachable(what string, err error) error {
	return &credential.Error{Kind: credential.Unreachable, Err: fmt.Errorf("%s: %w", what, err)}
}
