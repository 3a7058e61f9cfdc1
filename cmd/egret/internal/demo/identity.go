// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/identity/embedded"
	"github.com/egret-proxy/egret/identity/embedded/delegate"
	"github.com/egret-proxy/egret/identity/kernel"
	"github.com/egret-proxy/egret/identity/process"
	"github.com/egret-proxy/egret/internal/sockopt"
)

// identities are the Workload API sockets of the workloads that come to the mesh
// listener, one for each, as a pod has the agent's socket mounted.
type identities struct {
	addr map[string]string // Workload API address by SPIFFE ID
	stop context.CancelFunc
	done sync.WaitGroup
}

// serveOthers opens them. The issuer is egret's own.
func (d *Demo) serveOthers(issuer *embedded.Issuer) error {
	d.bundles.issuer.Store(issuer)
	ctx, cancel := context.WithCancel(context.Background())
	d.ids = &identities{addr: map[string]string{}, stop: cancel}
	for i, id := range []string{agentID, reportID} {
		srv, err := issuer.Listen(filepath.Join(d.dir, fmt.Sprintf("spiffe%d", i), "agent.sock"), embedded.Entry{ID: spiffeid.RequireFromString(id)})
		if err != nil {
			return err
		}
		d.ids.addr[id] = srv.Address()
		d.ids.done.Go(func() { _ = srv.Serve(ctx) })
	}
	return nil
}

func (i *identities) close() {
	i.stop()
	i.done.Wait()
}

// bundles are those of the issuer, for the token endpoint, which is there before it.
type bundles struct {
	issuer atomic.Pointer[embedded.Issuer]
}

// GetJWTBundleForTrustDomain implements jwtbundle.Source.
func (b *bundles) GetJWTBundleForTrustDomain(td spiffeid.TrustDomain) (*jwtbundle.Bundle, error) {
	i := b.issuer.Load()
	if i == nil {
		return nil, errors.New("the issuer has not started")
	}
	return i.Bundles().GetJWTBundleForTrustDomain(td)
}

// callers is how programs of this machine are known.
type callers struct {
	hybrid  bool  // cgroup v1 is mounted too
	missing error // why not by their process; nil: by it
}

// String says it in the story.
func (l callers) String() string {
	if l.missing != nil {
		return fmt.Sprintf("whoever of this user reaches the job's listener, as in a pod (by process it cannot be told here: %v)", l.missing)
	}
	return fmt.Sprintf("what the kernel says of the connecting process (cgroup, uid %d), and the issuer's entry for it", os.Geteuid())
}

// probe finds out whether the kernel tells who connects, here and to this user, by
// taking the way that a process listener takes.
func (d *Demo) probe(ctx context.Context) error {
	d.callers.hybrid, d.callers.missing = knownByProcess(ctx, d.dir)
	return nil
}

// probeTime bounds it. Nothing but this machine is asked.
const probeTime = 3 * time.Second

func knownByProcess(ctx context.Context, dir string) (hybrid bool, err error) {
	groups, err := kernel.FindCgroups()
	if err != nil {
		return false, err
	}
	issuer, err := embedded.New(embedded.Options{TrustDomain: spiffeid.RequireTrustDomainFromString("acme.example")})
	if err != nil {
		return false, err
	}
	srv, err := issuer.Listen(filepath.Join(dir, "probe", "agent.sock"), embedded.Entry{ID: spiffeid.RequireFromString(dashboardID)})
	if err != nil {
		return false, err
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	defer func() { _ = srv.Serve(done) }() // it closes what is not needed
	at, err := delegate.New(srv, delegate.Options{TCP: true})
	if err != nil {
		return false, err
	}
	r, err := process.New(process.Options{
		Attestor: at, TrustDomains: []spiffeid.TrustDomain{issuer.TrustDomain()}, Cgroups: groups, Hybrid: groups.Hybrid(), RootCgroup: true,
	})
	if err != nil {
		return false, err
	}
	defer r.Close()
	return groups.Hybrid(), knows(ctx, r)
}

// knows asks about a connection of our own.
func knows(ctx context.Context, r identity.Resolver) error {
	owner, err := ownConnection(ctx)
	if err != nil {
		return err
	}
	if owner.UID != uint32(os.Geteuid()) {
		return fmt.Errorf("the kernel says uid %d of a connection of uid %d", owner.UID, os.Geteuid())
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	_, err = r.Resolve(ctx, identity.Peer{Proc: &identity.Process{UID: owner.UID, Cgroup: owner.Cgroup, PIDFD: -1}})
	return err
}

func ownConnection(ctx context.Context) (sockopt.Owner, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return sockopt.Owner{}, err
	}
	defer func() { _ = l.Close() }()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp4", l.Addr().String())
	if err != nil {
		return sockopt.Owner{}, err
	}
	defer func() { _ = c.Close() }()
	peer, err := l.Accept()
	if err != nil {
		return sockopt.Owner{}, err
	}
	defer func() { _ = peer.Close() }()
	return sockopt.PeerOwner(peer)
}
