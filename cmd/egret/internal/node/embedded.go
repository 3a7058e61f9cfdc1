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

	"github.com/egret-proxy/egret/identity/embedded"
)

// embeddedAPI is a Workload API of our own, in a private folder.
type embeddedAPI struct {
	address string
	dir     string
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
	dir, err := os.MkdirTemp("", "egret-spiffe-")
	if err != nil {
		return nil, err
	}
	e := &embeddedAPI{dir: dir}
	srv, err := iss.Listen(filepath.Join(dir, "agent.sock"), embedded.Entry{ID: id})
	if err != nil {
		e.remove()
		return nil, err
	}
	e.address = srv.Address()
	running.Go(func() {
		if err := srv.Serve(ctx); err != nil && ctx.Err() == nil {
			n.fail(err)
		}
	})
	return e, nil
}

func (e *embeddedAPI) remove() { _ = os.RemoveAll(e.dir) }
