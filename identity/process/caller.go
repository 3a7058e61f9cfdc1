// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/internal/secret"
)

// caller is one connection of a workload. Its identity is the one selected when the
// connection came in; it may be renewed, and not become another.
type caller struct {
	s  *session
	id spiffeid.ID
}

// caller waits for the first answer and selects the identity.
func (r *Resolver) caller(ctx context.Context, s *session) (*caller, error) {
	select {
	case <-s.answered:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: the attestor has not answered about %s in time: %w", identity.ErrUnavailable, s, ctx.Err())
	}
	a := s.answer.Load()
	if a.err != nil {
		return nil, a.err
	}
	id, err := r.selected(a.svids)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s, err)
	}
	c := &caller{s: s, id: id}
	if _, err := c.Workload(); err != nil {
		return nil, err
	}
	return c, nil
}

// selected returns the one identity that is accepted (MUST I7).
func (r *Resolver) selected(svids []*x509svid.SVID) (spiffeid.ID, error) {
	var ids []spiffeid.ID
	for _, v := range svids {
		if !slices.Contains(ids, v.ID) && r.options.Accept(v.ID) {
			ids = append(ids, v.ID)
		}
	}
	switch len(ids) {
	case 0:
		return spiffeid.ID{}, fmt.Errorf("%w: none of its identities (%q, …) is one that is accepted here", identity.ErrUnknown, svids[0].ID)
	case 1:
		return ids[0], nil
	}
	return spiffeid.ID{}, fmt.Errorf("%w: it has %d identities (%q, %q, …) and nothing selects one; narrow its registration entries, or what is accepted here", identity.ErrInvalid, len(ids), ids[0], ids[1])
}

// current returns the caller's SVID as it stands now.
func (c *caller) current() (*x509svid.SVID, error) {
	a := c.s.answer.Load()
	if a.err != nil {
		return nil, a.err
	}
	if c.s.held != nil && !c.s.held.Alive() {
		return nil, fmt.Errorf("%w: %s", identity.ErrGone, c.s)
	}
	var best *x509svid.SVID
	for _, v := range a.svids {
		if v.ID == c.id && (best == nil || v.Certificates[0].NotAfter.After(best.Certificates[0].NotAfter)) {
			best = v
		}
	}
	switch {
	case best == nil:
		return nil, fmt.Errorf("%w: %s is not %q any more", identity.ErrRevoked, c.s, c.id)
	case !time.Now().Before(best.Certificates[0].NotAfter):
		return nil, fmt.Errorf("%w: the SVID of %q ended at %s and the attestor has not renewed it", identity.ErrExpired, c.id, best.Certificates[0].NotAfter.UTC().Format(time.RFC3339))
	}
	return best, nil
}

// Workload implements identity.Caller. Over unix sockets it looks whether the process
// is still there, for one system call.
func (c *caller) Workload() (identity.Workload, error) {
	c.s.touch()
	v, err := c.current()
	if err != nil {
		return identity.Workload{}, err
	}
	return identity.Workload{ID: c.id, Evidence: identity.EvidenceProcess, Expires: v.Certificates[0].NotAfter}, nil
}

// X509SVID implements identity.Caller: the workload's own SVID and key, which the
// attestor has issued on its behalf.
func (c *caller) X509SVID(context.Context) (tls.Certificate, error) {
	v, err := c.current()
	if err != nil {
		return tls.Certificate{}, err
	}
	cert := tls.Certificate{PrivateKey: v.PrivateKey, Leaf: v.Certificates[0]}
	for _, der := range v.Certificates {
		cert.Certificate = append(cert.Certificate, der.Raw)
	}
	return cert, nil
}

// JWTSVID implements identity.Caller: the attestor issues it on the workload's behalf.
// Nothing is cached; agents do.
func (c *caller) JWTSVID(ctx context.Context, audience string) (secret.Secret, time.Time, error) {
	none := secret.Secret{}
	if audience == "" {
		return none, time.Time{}, fmt.Errorf("%w: no audience given for a JWT-SVID; name the service that it is for", identity.ErrInvalid)
	}
	for {
		if _, err := c.Workload(); err != nil {
			return none, time.Time{}, err
		}
		ref := *c.s.subject.Load()
		token, ends, err := c.issue(ctx, ref, audience)
		if err == nil {
			return token, ends, nil
		}
		// The process that the attestor was asked about has ended meanwhile: once the
		// session has found another one of the workload, that is asked about.
		if ref.Exact || !errors.Is(err, identity.ErrGone) || !c.handedOver(ctx, ref) {
			return none, time.Time{}, err
		}
	}
}

// handedOver waits until the session is over, or asks about another process.
func (c *caller) handedOver(ctx context.Context, was Reference) bool {
	for {
		if c.s.ctx.Err() != nil {
			return false
		}
		if c.s.subject.Load().Process != was.Process {
			return true
		}
		if was.Process.Alive() {
			return false // the attestor does not see it, and will not
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(time.Millisecond):
		}
	}
}

// issue fetches a token and holds it to what was asked for (MUST I6, I7).
func (c *caller) issue(ctx context.Context, ref Reference, audience string) (secret.Secret, time.Time, error) {
	none := secret.Secret{}
	if err := same(ref); err != nil {
		return none, time.Time{}, err
	}
	token, ends, err := c.s.r.options.Attestor.JWTSVID(ctx, ref, c.id, audience)
	if err != nil {
		return none, time.Time{}, err
	}
	if err := same(ref); err != nil {
		return none, time.Time{}, err
	}
	svid, err := jwtsvid.ParseInsecure(token.Reveal(), []string{audience})
	if err != nil {
		return none, time.Time{}, fmt.Errorf("%w: the attestor's JWT-SVID does not parse, has ended, or is not for %q", identity.ErrInvalid, audience)
	}
	if svid.ID != c.id || !slices.Equal(svid.Audience, []string{audience}) {
		return none, time.Time{}, fmt.Errorf("%w: asked the attestor for a JWT-SVID of %q for %q, got one of %q for %q",
			identity.ErrInvalid, c.id, audience, svid.ID, svid.Audience)
	}
	return token, ends, nil
}
