// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/identity/embedded"
)

// embeddedAPI is a Workload API of our own, in a private folder.
type embeddedAPI struct {
	address string
	dir     string
	issuer  *embedded.Issuer
	server  *embedded.Server // which also knows local callers, by its entries
}

func (n *Node) serveEmbedded(ctx context.Context, running *sync.WaitGroup) (*embeddedAPI, error) {
	c := n.cfg.Spiffe.Embedded
	id, err := spiffeid.FromString(c.SpiffeID)
	if err != nil {
		return nil, fmt.Errorf("spiffe.embedded.spiffeID: %q: %w", c.SpiffeID, err)
	}
	iss, err := embedded.New(embedded.Options{TrustDomain: id.TrustDomain(), Logger: n.log})
	if err != nil {
		return nil, err
	}
	entries, err := EmbeddedEntries(c.Entries)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "egret-spiffe-")
	if err != nil {
		return nil, err
	}
	e := &embeddedAPI{dir: dir, issuer: iss}
	srv, err := iss.Listen(filepath.Join(dir, "agent.sock"), append(entries, embedded.Entry{ID: id})...)
	if err != nil {
		e.remove()
		return nil, err
	}
	e.address, e.server = srv.Address(), srv
	running.Go(func() {
		if err := srv.Serve(ctx); err != nil && ctx.Err() == nil {
			n.fail(err)
		}
	})
	return e, nil
}

// EmbeddedEntries says who local callers are. The socket itself is egret's alone.
func EmbeddedEntries(list []config.EmbeddedEntry) ([]embedded.Entry, error) {
	out := make([]embedded.Entry, 0, len(list)+1)
	for i, c := range list {
		id, err := spiffeid.FromString(c.SpiffeID)
		if err != nil {
			return nil, fmt.Errorf("spiffe.embedded.entries[%d].spiffeID: %q: %w", i, c.SpiffeID, err)
		}
		out = append(out, embedded.Entry{
			ID: id, UIDs: numbers(c.UIDs), GIDs: numbers(c.GIDs), Path: c.Path, SHA256: c.SHA256, Cgroup: c.Cgroup, Unit: c.Unit,
		})
	}
	return out, nil
}

// numbers are uids or gids, which the configuration has bounded.
func numbers(list []int) []uint32 {
	out := make([]uint32, 0, len(list))
	for _, n := range list {
		out = append(out, uint32(n))
	}
	return out
}

func (e *embeddedAPI) remove() { _ = os.RemoveAll(e.dir) }

// Issuer is the embedded issuer, nil where identities come from elsewhere. It is for
// programs that hold both a node and its workloads, such as egret demo.
func (n *Node) Issuer() *embedded.Issuer {
	if n.embedded == nil {
		return nil
	}
	return n.embedded.issuer
}
