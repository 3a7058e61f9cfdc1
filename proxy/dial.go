// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/egret-proxy/egret/internal/sockopt"
)

// Resolver looks names up; *net.Resolver implements it.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Route says how one connection to an upstream is made. It comes from the rule, never
// from the request.
type Route struct {
	Host  string         // canonical name, verified in TLS
	Port  uint16         //
	Dial  string         // "host:port" to connect to instead; "" = resolve Host
	Allow []netip.Prefix // private ranges that are allowed for this destination
}

// Dialer makes upstream TCP connections: it resolves once, checks every address and
// dials exactly a checked one (MUST T5, T13). It never reads the environment (T7).
// Safe for concurrent use.
type Dialer struct {
	Resolver Resolver
	Rules    AddressRules
	Proxy    *UpstreamProxy // corporate proxy, or nil
	// Own reports whether an address is one that this egret listens on.
	Own func(netip.AddrPort) bool
	// Mark is the firewall mark (SO_MARK) of the connections; 0: none. Without the right to
	// set it nothing is dialled.
	Mark uint32

	calls   calls   // that are open
	answers answers // of the resolver
}

// NewResolver returns a resolver for the given servers ("ip:port"), or the system's
// configured servers where there are none. It is Go's own resolver, which reads
// /etc/hosts and resolv.conf; names are made absolute before they are asked for.
func NewResolver(servers []string) *net.Resolver {
	r := &net.Resolver{PreferGo: true}
	if len(servers) == 0 {
		return r
	}
	var d net.Dialer
	next := make(chan string, len(servers))
	for _, s := range servers {
		next <- s
	}
	r.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		s := <-next // round robin: a dead server costs every other attempt only
		next <- s
		return d.DialContext(ctx, network, s)
	}
	return r
}

// Upstream errors by cause. They are matched with errors.Is and never told in words.
var (
	errDNS     = errors.New("name not resolved")
	errPrivate = errors.New("address not allowed")
	errConnect = errors.New("not connected")
	errProxy   = errors.New("upstream proxy refused")
	errVerify  = errors.New("upstream certificate not verified")
	errALPN    = errors.New("upstream speaks another protocol")
)

// fallbackDelay is when the next address is tried beside a slow one (RFC 8305, 5).
const fallbackDelay = 250 * time.Millisecond

// DialContext connects along the route. The result is a *net.TCPConn unless a
// corporate proxy is in between.
func (d *Dialer) DialContext(ctx context.Context, rt Route) (net.Conn, error) {
	if d.proxied(rt) {
		return d.Proxy.dial(ctx, d, rt)
	}
	host, port := rt.Host, rt.Port
	trusted := false
	if rt.Dial != "" {
		var err error
		if host, port, trusted, err = splitDial(rt.Dial); err != nil {
			return nil, err
		}
	}
	addrs, err := d.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	if !trusted {
		if err := d.checkAll(addrs, rt.Allow); err != nil {
			return nil, err
		}
	}
	if err := d.notOwn(addrs, port); err != nil { // the platform's word included
		return nil, err
	}
	return d.race(ctx, addrs, port)
}

// proxied reports whether the route goes through the corporate proxy, which resolves the
// name. A destination's own dial goes round it.
func (d *Dialer) proxied(rt Route) bool { return d.Proxy != nil && rt.Dial == "" }

// splitDial splits a destination's dial. A literal address there is the platform's own
// word and needs no second opt-in; a name is checked like any other.
func splitDial(s string) (host string, port uint16, literal bool, err error) {
	host, p, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, false, fmt.Errorf("%w: dial %q: %w", errConnect, s, err)
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return "", 0, false, fmt.Errorf("%w: dial %q: %w", errConnect, s, err)
	}
	_, perr := netip.ParseAddr(host)
	return host, uint16(n), perr == nil, nil
}

// resolve looks the name up as an absolute name: no search domain can answer for it.
func (d *Dialer) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	name := host
	if !strings.HasSuffix(name, ".") {
		name += "."
	}
	addrs, err := d.Resolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		if cerr := context.Cause(ctx); cerr != nil {
			return nil, fmt.Errorf("%w: %w", errDNS, cerr)
		}
		return nil, fmt.Errorf("%w: %w", errDNS, err)
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("%w: no address for %q", errDNS, host)
	}
	d.answers.add(host, addrs, time.Now())
	return addrs, nil
}

// checkAll refuses the whole answer if one address of it is not allowed: a mixed
// answer is how rebinding looks.
func (d *Dialer) checkAll(addrs []netip.Addr, allow []netip.Prefix) error {
	for _, a := range addrs {
		if err := d.Rules.check(a, allow); err != nil {
			return fmt.Errorf("%w: %w", errPrivate, err)
		}
	}
	return nil
}

// notOwn refuses what egret itself listens on: a request would go round for ever, or
// reach its metrics (MUST P2).
func (d *Dialer) notOwn(addrs []netip.Addr, port uint16) error {
	for _, a := range addrs {
		if d.Own != nil && d.Own(netip.AddrPortFrom(a.Unmap(), port)) {
			return fmt.Errorf("%w: %s:%d is egret's own", errPrivate, a, port)
		}
	}
	return nil
}

// race dials the addresses one after the other, each starting when the one before has
// failed or has been silent for fallbackDelay; the first connection wins.
func (d *Dialer) race(ctx context.Context, addrs []netip.Addr, port uint16) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result, len(addrs))
	start := func(a netip.Addr) {
		c, err := d.dialAddr(ctx, netip.AddrPortFrom(a, port))
		results <- result{c, err}
	}
	timer := time.NewTimer(fallbackDelay)
	defer timer.Stop()
	var firstErr error
	running, next := 0, 0
	launch := func() {
		go start(addrs[next])
		next++
		running++
		timer.Reset(fallbackDelay)
	}
	launch()
	for running > 0 {
		select {
		case r := <-results:
			running--
			if r.err == nil {
				go closeLosers(results, running, func(r result) net.Conn { return r.conn })
				return r.conn, nil
			}
			if firstErr == nil {
				firstErr = r.err
			}
			if next < len(addrs) {
				launch()
			}
		case <-timer.C:
			if next < len(addrs) {
				launch()
			}
		}
	}
	return nil, fmt.Errorf("%w: %w", errConnect, firstErr)
}

func closeLosers[R any](results <-chan R, n int, conn func(R) net.Conn) {
	for range n {
		if c := conn(<-results); c != nil {
			_ = c.Close()
		}
	}
}

// dialAddr connects to one address; the control hook compares what the kernel is asked
// to connect to with what was checked.
func (d *Dialer) dialAddr(ctx context.Context, ap netip.AddrPort) (net.Conn, error) {
	nd := net.Dialer{KeepAlive: 30 * time.Second}
	nd.ControlContext = func(_ context.Context, _, address string, raw syscall.RawConn) error {
		got, err := netip.ParseAddrPort(address)
		if err != nil || got.Addr().Unmap() != ap.Addr().Unmap() || got.Port() != ap.Port() {
			return fmt.Errorf("%w: dialling %q instead of %s", errPrivate, address, ap)
		}
		if d.Mark == 0 {
			return nil
		}
		return sockopt.SetMark(raw, d.Mark)
	}
	conn, err := nd.DialContext(ctx, "tcp", ap.String())
	if err == nil {
		d.calls.add(conn)
	}
	return conn, err
}
