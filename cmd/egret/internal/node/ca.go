// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/egret-proxy/egret/internal/ops"
)

// certWarning is how long before the end of the last intermediate /readyz says so.
const certWarning = 7 * 24 * time.Hour

// errCAEnded: nobody can be shown a certificate for some host.
var errCAEnded = errors.New("an intermediate of the CA has ended")

// checkCA fails where every intermediate has ended, so that no new connection is served.
// It warns of one among several that has, and of one that ends soon: within a week, or
// within the last quarter of a shorter life, since they are renewed at half of it.
func (n *Node) checkCA() error {
	if n.cfg.Certs.Issuer.Ephemeral != nil { // renews itself
		return nil
	}
	end := n.issuer.Expires()
	switch left := time.Until(end); {
	case left <= 0:
		err := fmt.Errorf("%w, at %s: new connections to its hosts fail; run egret ca issue --replace", errCAEnded, end.UTC().Format(time.RFC3339))
		if time.Now().Before(n.caEnd()) {
			return ops.Advise(err)
		}
		return err
	case left < min(certWarning, n.caLife()/4):
		return ops.Advise(fmt.Errorf("an intermediate of the CA ends in %s: run egret ca issue --replace", rounded(left)))
	}
	return nil
}

// rounded is a duration as exact as helps: its last minute counts in seconds.
func rounded(d time.Duration) time.Duration {
	if d < 2*time.Minute {
		return d.Truncate(time.Second)
	}
	return d.Round(time.Minute)
}

// caLife is the life of the intermediate that ends first.
func (n *Node) caLife() time.Duration {
	end := n.issuer.Expires()
	for _, c := range n.issuer.Authorities() {
		if c.NotAfter.Equal(end) {
			return c.NotAfter.Sub(c.NotBefore)
		}
	}
	return 0
}

// caEnd is when the last of the intermediates ends.
func (n *Node) caEnd() (last time.Time) {
	for _, c := range n.issuer.Authorities() {
		if c.MaxPathLenZero && c.NotAfter.After(last) { // not what stands above it
			last = c.NotAfter
		}
	}
	return last
}

// caLook is how often the end of the intermediates is looked at, at least.
const caLook = time.Minute

// watchCA logs, once each, that an intermediate ends soon, that it has ended and that all
// is well again, until ctx ends. Connections that fail for it have their records.
func (n *Node) watchCA(ctx context.Context) {
	for said := caWell; ; {
		if now, err := n.caState(); now != said {
			n.sayCA(now, err)
			said = now
		}
		next := caLook
		if left := time.Until(n.issuer.Expires()); left > 0 {
			next = min(next, left)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(next):
		}
	}
}

// caState is what checkCA says, without the time that is left.
type caState int

const (
	caWell caState = iota
	caEnding
	caEnded
)

func (n *Node) caState() (caState, error) {
	err := n.checkCA()
	switch {
	case err == nil:
		return caWell, nil
	case errors.Is(err, errCAEnded):
		return caEnded, err
	}
	return caEnding, err
}

func (n *Node) sayCA(s caState, err error) {
	switch s {
	case caWell:
		n.log.Info("the intermediates of the CA are well again", "first ends", n.issuer.Expires().UTC())
	case caEnding:
		n.log.Warn("the CA needs a new intermediate", "error", err)
	case caEnded:
		n.log.Error("the CA cannot sign for all its hosts", "error", err)
	}
}
