// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/identity"
)

// self is what the Workload API says about this process, which stands for egret's.
type self struct {
	id string // empty where it has none
}

func (s self) String() string {
	if s.id == "" {
		return "nobody, since there is no SVID"
	}
	return s.id
}

const (
	workloadAPI = "workload API"
	noAgent     = "start the SPIFFE agent, or name its socket in spiffe.workloadAPI, and let this user reach it"
	noEntry     = "make a registration entry whose selectors fit egret (as this user, here)"
)

// identity asks the Workload API as egret does. The source is nil where there is none to
// ask; stop lets go of it.
func (e *examination) identity(ctx context.Context) (*identity.Source, func()) {
	c := e.Config.Spiffe
	if c.Embedded != nil {
		e.self.id = c.Embedded.SpiffeID
		e.ok(workloadAPI, "egret issues its own SVIDs, as %s (for laptops and CI runners)", c.Embedded.SpiffeID)
		return nil, func() {}
	}
	tds, err := domains(c.TrustDomains)
	if err != nil {
		e.bad(Fail, "trust domains", "write names such as acme.example", err)
		return nil, func() {}
	}
	src, err := identity.NewSource(sourceOptions(e.Config, tds))
	if err != nil {
		e.bad(Fail, workloadAPI, "set spiffe.workloadAPI", err)
		return nil, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { _ = src.Run(ctx) }) // what it meets, SVID tells
	e.ask(ctx, src)
	e.domains(src, tds)
	return src, func() { cancel(); running.Wait() }
}

func domains(list []string) ([]spiffeid.TrustDomain, error) {
	out := make([]spiffeid.TrustDomain, 0, len(list))
	for _, name := range list {
		td, err := spiffeid.TrustDomainFromString(name)
		if err != nil {
			return nil, err
		}
		out = append(out, td)
	}
	return out, nil
}

func (e *examination) ask(ctx context.Context, src *identity.Source) {
	wait, cancel := context.WithTimeout(ctx, e.Wait)
	defer cancel()
	answered := settled(wait, src)
	svid, err := src.SVID()
	switch {
	case err == nil && answered:
		e.self.id = svid.ID.String()
		e.ok(workloadAPI, "%s answers", e.Config.Spiffe.WorkloadAPI)
		e.life("own SVID", e.self.id, span{svid.Certificates[0].NotBefore, svid.Certificates[0].NotAfter},
			"see in the agent's log why it does not renew the SVID")
	case err == nil:
		e.bad(Fail, workloadAPI, "see in the agent's log why it gives no JWT bundles", e.Config.Spiffe.WorkloadAPI+" answers about X.509 but not about JWT bundles")
	case errors.Is(err, identity.ErrUnavailable):
		e.bad(Fail, workloadAPI, noAgent, err)
	case errors.Is(err, identity.ErrRevoked):
		e.ok(workloadAPI, "%s answers", e.Config.Spiffe.WorkloadAPI)
		e.bad(Fail, "own SVID", noEntry, err)
	default:
		e.ok(workloadAPI, "%s answers", e.Config.Spiffe.WorkloadAPI)
		e.bad(Fail, "own SVID", "let the registration entries give egret exactly one SVID, of one of spiffe.trustDomains", err)
	}
}

// settled waits for an answer, also one that denies.
func settled(ctx context.Context, src *identity.Source) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-src.Ready():
			return true
		case <-ctx.Done():
			return false
		case <-tick.C:
			if _, err := src.SVID(); err != nil && !errors.Is(err, identity.ErrUnavailable) {
				return false
			}
		}
	}
}

// domains looks for the bundles of those who may vouch for callers.
func (e *examination) domains(src *identity.Source, tds []spiffeid.TrustDomain) {
	if e.self.id == "" {
		return // all would fail for the one reason
	}
	for _, td := range tds {
		check := "trust domain " + td.Name()
		b, err := src.GetX509BundleForTrustDomain(td)
		if err != nil {
			e.bad(Fail, check, "federate with it in egret's registration entry, or take it out of spiffe.trustDomains", err)
			continue
		}
		e.ok(check, "its callers are verified by its own bundle, %d X.509 authorities", len(b.X509Authorities()))
	}
}

// span is a certificate's life.
type span struct{ from, to time.Time }

// life judges it: what is renewed in time never has less than a fifth of it left.
func (e *examination) life(check, what string, s span, change string) {
	rest, whole := time.Until(s.to), s.to.Sub(s.from)
	switch {
	case rest <= 0:
		e.bad(Fail, check, change, what+", ended at "+s.to.UTC().Format(time.RFC3339))
	case rest < whole/5:
		e.bad(Warn, check, change, what+", only "+left(rest)+" left of "+left(whole))
	default:
		e.ok(check, "%s, %s left", what, left(rest))
	}
}

// uid is who we are to the kernel.
func uid() int { return os.Geteuid() }
