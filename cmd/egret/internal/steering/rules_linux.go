// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package steering is egret steer and the CNI plugin: the privileged side of node mode.
// It holds no credential, reads no traffic and makes no connection but to unix sockets.
package steering

import (
	"context"
	"fmt"

	"github.com/egret-proxy/egret/internal/redirect"
)

// rules implements steer.Rules with the firewall's own programs, which run in the
// namespace that the thread is in.
type rules struct {
	backend redirect.Backend
	options redirect.Options
}

// newRules checks the options once, before any pod is touched.
func newRules(b redirect.Backend, o redirect.Options) (*rules, error) {
	o.UID, o.Mark, o.Apart = redirect.NoUID, 0, true
	try := b
	if try == redirect.Auto {
		try = redirect.Nft
	}
	if _, err := redirect.New(try, o); err != nil {
		return nil, err
	}
	return &rules{b, o}, nil
}

// Install implements steer.Rules.
func (r *rules) Install(ctx context.Context) error {
	fw := r.firewall()
	b, err := fw.Choose(ctx, r.backend)
	if err != nil {
		return fmt.Errorf("redirect rules: %w", err)
	}
	p, err := redirect.New(b, r.options)
	if err == nil {
		err = fw.Apply(ctx, p)
	}
	if err != nil {
		return fmt.Errorf("redirect rules: %w", err)
	}
	return nil
}

// Remove implements steer.Rules.
func (r *rules) Remove(ctx context.Context) error {
	_, err := r.firewall().Remove(ctx, r.backend)
	return err
}

// firewall is that of the namespace that the thread is in, for one visit.
func (r *rules) firewall() *redirect.Firewall {
	return redirect.NewFirewall(&thrifty{Runner: redirect.NewRunner()})
}
