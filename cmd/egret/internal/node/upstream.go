// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/egret-proxy/egret/certs"
	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/internal/secret"
	"github.com/egret-proxy/egret/internal/sockopt"
	"github.com/egret-proxy/egret/proxy"
)

// buildUpstream makes the way out: resolver, address rules, corporate proxy, pool.
func (n *Node) buildUpstream() error {
	c := n.cfg.Upstream
	deny, err := prefixes("egress.denyCIDRs", n.cfg.Egress.DenyCIDRs)
	if err != nil {
		return err
	}
	nat64, err := prefixes("upstream.nat64", c.NAT64)
	if err != nil {
		return err
	}
	if n.roots, _, err = certs.LoadUpstreamRoots(c.Roots, n.ours()...); err != nil {
		return fmt.Errorf("upstream.roots: %w", err)
	}
	n.dialer = &proxy.Dialer{
		Resolver: proxy.NewResolver(c.Resolvers), Rules: proxy.AddressRules{Deny: deny, NAT64: nat64}, Own: n.own, Mark: uint32(c.Mark),
	}
	if err := sockopt.CanMark(n.dialer.Mark); err != nil {
		return fmt.Errorf("upstream.mark: %w", err)
	}
	if n.dialer.Proxy, err = n.upstreamProxy(c.Proxy); err != nil {
		return err
	}
	l := n.cfg.Limits
	n.pool, err = proxy.NewPool(proxy.PoolOptions{
		Dialer: n.dialer, Roots: n.roots, Dial: l.Dial, ResponseHeader: l.ResponseHeader, IdlePerKey: l.IdleUpstreamPerKey, Idle: l.IdleUpstream,
	})
	if err != nil {
		return err
	}
	n.onClose(n.pool.Close)
	return nil
}

func prefixes(key string, list []string) ([]netip.Prefix, error) {
	out := make([]netip.Prefix, 0, len(list))
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// upstreamProxy reads the corporate proxy's settings; its password is read anew for
// every connection, so that a rotated file is followed.
func (n *Node) upstreamProxy(c *config.UpstreamProxy) (*proxy.UpstreamProxy, error) {
	if c == nil {
		return nil, nil //nolint:nilnil // no corporate proxy is the usual case
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, fmt.Errorf("upstream.proxy.url: %w", err)
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		return nil, fmt.Errorf("upstream.proxy.url: %w", err)
	}
	p := &proxy.UpstreamProxy{Scheme: u.Scheme, Host: u.Hostname(), Port: uint16(port), Username: c.Username}
	if c.Roots != "" || u.Scheme == "https" {
		if p.Roots, _, err = certs.LoadUpstreamRoots(c.Roots, n.ours()...); err != nil {
			return nil, fmt.Errorf("upstream.proxy.roots: %w", err)
		}
	}
	if c.Password != "" {
		p.Password = func() (secret.Secret, error) {
			b, err := os.ReadFile(c.Password)
			return secret.New(strings.TrimRight(string(b), "\r\n")), err
		}
	}
	return p, nil
}
