// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package cluster

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/egret-proxy/egret/internal/netns"
	"github.com/egret-proxy/egret/internal/saas"
	"github.com/egret-proxy/egret/internal/secret"
)

// saasAddress is where the twins are: public, so that egret calls it with the settings of
// the examples as they are.
const saasAddress = "45.33.12.10"

// outside is what is around the cluster: DNS and the SaaS, whose names and certificates
// are as the real ones but for the root, which egret's image trusts.
type outside struct {
	ca        *saas.CA
	slack     *saas.Slack
	qase      *saas.Qase
	oauth     *saas.OAuth
	keys      *saas.Issuer // Qase's
	dashboard secret.Secret
	monthly   secret.Secret // of another workload
}

// newOutside serves it in the node's network. The authorization server believes the
// JWT-SVIDs of bundles.
func newOutside(t *testing.T, ns *netns.NS, bundles jwtbundle.Source) *outside {
	t.Helper()
	bots := saas.NewIssuer(nil)
	o := &outside{keys: saas.NewIssuer(nil)}
	o.dashboard, o.monthly = o.keys.Issue([]string{saas.QaseRead, saas.QaseWrite}, 0), o.keys.Issue([]string{saas.QaseRead}, 0)
	o.slack = saas.NewSlack(saas.SlackConfig{Tokens: bots, Channels: []saas.Channel{{ID: "C0QA000001", Name: "qa"}}})
	o.qase = saas.NewQase(saas.QaseConfig{Tokens: o.keys})
	o.oauth = saas.NewOAuth(saas.OAuthConfig{
		Issuer: "https://auth.acme.example", Tokens: bots, Bundles: bundles,
		Clients: []saas.Client{{ID: "nightly-dashboard", SpiffeID: spiffeid.RequireFromString(dashboardID), Scopes: []string{"chat:write"}}},
	})
	var err error
	if o.ca, err = saas.NewCA(); err != nil {
		t.Fatal(err)
	}
	hosts := []saas.Host{{Name: "slack.com", Handler: o.slack}, {Name: "api.qase.io", Handler: o.qase}, {Name: "auth.acme.example", Handler: o.oauth}}
	l, err := ns.Listen(t.Context(), "tcp", saasAddress+":443")
	if err != nil {
		t.Fatal(err)
	}
	server, err := saas.ListenOn(l, o.ca, hosts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	var names []string
	for _, h := range hosts {
		names = append(names, h.Name)
	}
	serveDNS(t, ns, names)
	return o
}

// serveDNS answers with the twins' address for their names, and for no other.
func serveDNS(t *testing.T, ns *netns.NS, names []string) {
	t.Helper()
	var conn net.PacketConn
	if err := ns.Do(func() (err error) {
		conn, err = (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", dnsAddress+":53")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	t.Cleanup(func() { _ = conn.Close(); done.Wait() })
	done.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply := answer(buf[:n], names); reply != nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	})
}

// answer is that to one question; nil to what is none.
func answer(query []byte, names []string) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	switch {
	case !slices.Contains(names, strings.TrimSuffix(strings.ToLower(q.Name.String()), ".")):
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 5},
			Body:   &dnsmessage.AResource{A: netip.MustParseAddr(saasAddress).As4()},
		}}
	}
	reply, err := m.Pack()
	if err != nil {
		return nil
	}
	return reply
}
