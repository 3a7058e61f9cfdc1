// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func (c *checker) spiffe() {
	s := &c.node.Spiffe
	c.trustDomains(s.TrustDomains)
	switch {
	case s.Embedded != nil:
		if s.WorkloadAPI != "" {
			c.bad("spiffe.workloadAPI", s.WorkloadAPI, "must not be set together with embedded, it would be ignored", "")
		}
		if s.ID != "" {
			c.bad("spiffe.id", s.ID, "must not be set together with embedded, it would be ignored", "")
		}
		c.embedded(s.Embedded.SpiffeID)
		return
	case s.WorkloadAPI == "":
		s.WorkloadAPI = c.env.Getenv("SPIFFE_ENDPOINT_SOCKET")
	}
	c.workloadAPI(s.WorkloadAPI)
	c.ownID(s.ID)
}

// ownID checks which of the SVIDs that egret is given is its own.
func (c *checker) ownID(id string) {
	if id == "" {
		return
	}
	parsed, err := spiffeid.FromString(id)
	switch {
	case err != nil || parsed.Path() == "":
		c.bad("spiffe.id", id, "must be a SPIFFE ID with a path", "write spiffe://"+c.firstTrustDomain()+"/egret")
	case !slices.Contains(c.node.Spiffe.TrustDomains, parsed.TrustDomain().Name()):
		c.bad("spiffe.id", id, "must be in one of spiffe.trustDomains", "")
	}
}

func (c *checker) trustDomains(names []string) {
	if len(names) == 0 {
		c.bad("spiffe.trustDomains", "", "must name at least one trust domain, whose callers are accepted", "")
	}
	for i, name := range names {
		path := at("spiffe.trustDomains", i)
		td, err := spiffeid.TrustDomainFromString(name)
		switch {
		case err != nil || td.Name() != name:
			c.bad(path, name, "must be the name of a SPIFFE trust domain", "write acme.example, without spiffe:// and path")
		case slices.Index(names, name) != i:
			c.bad(path, name, "must be listed only once", "")
		}
	}
}

func (c *checker) embedded(id string) {
	parsed, err := spiffeid.FromString(id)
	switch {
	case err != nil || parsed.Path() == "":
		c.bad("spiffe.embedded.spiffeID", id, "must be a SPIFFE ID with a path", "write spiffe://"+c.firstTrustDomain()+"/egret")
	case !slices.Contains(c.node.Spiffe.TrustDomains, parsed.TrustDomain().Name()):
		c.bad("spiffe.embedded.spiffeID", id, "must be in one of spiffe.trustDomains", "")
	}
}

func (c *checker) firstTrustDomain() string {
	if len(c.node.Spiffe.TrustDomains) > 0 {
		return c.node.Spiffe.TrustDomains[0]
	}
	return "acme.example"
}

func (c *checker) workloadAPI(address string) {
	if file, ok := strings.CutPrefix(address, "unix://"); ok {
		c.socketPath("spiffe.workloadAPI", address, file)
		return
	}
	if hostPort, ok := strings.CutPrefix(address, "tcp://"); ok {
		if _, err := netip.ParseAddrPort(hostPort); err == nil {
			return
		}
	}
	c.bad("spiffe.workloadAPI", address, "must be unix:///path or tcp://ip:port",
		"set it, or $SPIFFE_ENDPOINT_SOCKET; where there is no SPIRE, set spiffe.embedded")
}

// programs checks what Credentials may run: names as Credentials have them.
func (c *checker) programs() {
	for i, p := range c.node.Secrets.AllowPrograms {
		if !filepath.IsAbs(p) || filepath.Clean(p) != p || !printable(p) {
			c.bad(at("secrets.allowPrograms", i), p, "must be the absolute path of a program, without . and ..", "")
		}
	}
}

func (c *checker) admin() {
	a := &c.node.Admin
	if a.Socket == "" {
		if len(a.UIDs) > 0 {
			c.bad("admin.uids", "", "must not be set without admin.socket, it would be ignored", "")
		}
		if a.Revocations != "" {
			c.bad("admin.revocations", a.Revocations, "must not be set without admin.socket, over which nothing could be revoked or lifted", "")
		}
		return
	}
	if strings.HasSuffix(a.Revocations, "/") || !printable(a.Revocations) {
		c.bad("admin.revocations", a.Revocations, "must be the path of a file", "write /var/lib/egret/revocations.json")
	} else if a.Revocations != "" {
		a.Revocations = c.abs(a.Revocations)
	}
	shown := a.Socket
	a.Socket = c.abs(shown)
	c.adminSocket(shown, a.Socket)
	c.ids("admin.uids", "a user id", a.UIDs)
}

func (c *checker) adminSocket(shown, socket string) {
	if len(socket) > maxUnixPath || !printable(socket) || strings.HasSuffix(shown, "/") {
		c.bad("admin.socket", shown, fmt.Sprintf("must be a path of at most %d printable bytes", maxUnixPath), "")
	}
	for i, l := range c.node.Listeners {
		if l.Address == "unix://"+socket {
			c.bad("admin.socket", shown, fmt.Sprintf("must not be the address of listeners[%d]", i), "")
		}
	}
}

func (c *checker) metrics() {
	address := c.node.Metrics.Address
	if address == "" {
		return
	}
	if strings.HasPrefix(address, "unix:") || strings.HasPrefix(address, "systemd:") {
		c.bad("metrics.address", address, "must be ip:port", "write 127.0.0.1:8633")
		return
	}
	c.hostPort("metrics.address", address, "ip:port")
	for i, l := range c.node.Listeners {
		if l.Address == address && !strings.HasSuffix(address, ":0") {
			c.bad("metrics.address", address, fmt.Sprintf("must not be the address of listeners[%d]", i), "")
		}
	}
}

func (c *checker) certs() {
	issuer := &c.node.Certs.Issuer
	if (len(issuer.File) > 0) == (issuer.Ephemeral != nil) {
		c.bad("certs.issuer", "", "must have exactly one of file, ephemeral",
			"make an intermediate with egret ca init and egret ca issue; ephemeral is for laptops and CI")
	}
	if e := issuer.Ephemeral; e != nil && c.written("certs.issuer.ephemeral.bundle") {
		c.output("certs.issuer.ephemeral.bundle", &e.Bundle, "must be a file in a folder that exists")
	}
	for i := range issuer.File {
		entry := at("certs.issuer.file", i)
		c.pair(entry+".chain", &issuer.File[i].Chain, entry+".key", &issuer.File[i].Key)
	}
}

func (c *checker) policyPaths() {
	if len(c.node.Policy.Paths) == 0 {
		c.bad("policy.paths", "", "must name at least one file or folder", "")
	}
	seen := map[string]int{}
	for i := range c.node.Policy.Paths {
		p := &c.node.Policy.Paths[i]
		entry := at("policy.paths", i)
		c.policyPath(entry+".path", p)
		if first, ok := seen[p.Path]; ok && p.Path != "" {
			c.bad(entry+".path", p.Path, fmt.Sprintf("must be listed only once, policy.paths[%d] has it too", first), "")
		}
		seen[p.Path] = i
		for j, pattern := range p.Scope {
			c.scope(at(entry+".scope", j), pattern)
		}
		if p.Scope != nil && len(p.Scope) == 0 {
			c.bad(entry+".scope", "", "must hold at least one pattern", "without scope the authors of this path may write everything")
		}
	}
}

func (c *checker) policyPath(path string, p *PolicyPath) {
	shown := p.Path
	if shown == "" || !printable(shown) {
		c.bad(path, shown, "must name a file or a folder", "")
		return
	}
	p.Path = c.abs(shown)
	if _, err := c.env.Stat(p.Path); err != nil {
		c.bad(path, shown, mustBeReadable(err), "")
	}
}

// scope checks a pattern of SPIFFE IDs: whole segments may be *, and the last may be
// ** for the rest.
func (c *checker) scope(path, pattern string) {
	concrete := strings.TrimSuffix(pattern, "/**")
	if concrete != pattern && !strings.Contains(strings.TrimPrefix(concrete, "spiffe://"), "/") {
		concrete += "/x" // every ID of a trust domain
	}
	segments := strings.Split(concrete, "/")
	for i, s := range segments {
		if s == "*" && i > 2 {
			segments[i] = "x"
		}
	}
	id, err := spiffeid.FromString(strings.Join(segments, "/"))
	switch {
	case err != nil || id.Path() == "":
		c.bad(path, pattern, "must be a SPIFFE ID, with * for a segment or /** at the end", "write spiffe://"+c.firstTrustDomain()+"/ns/qa/**")
	case !slices.Contains(c.node.Spiffe.TrustDomains, id.TrustDomain().Name()):
		c.bad(path, pattern, "must be in one of spiffe.trustDomains", "")
	}
}

func (c *checker) egress() {
	e := c.node.Egress
	c.prefixes("egress.denyCIDRs", e.DenyCIDRs)
	if len(e.DenyCIDRs) == 0 && c.env.Getenv("KUBERNETES_SERVICE_HOST") != "" {
		c.bad("egress.denyCIDRs", "", "must name the node, pod and service ranges of the cluster",
			"without them a SaaS name that resolves into the cluster would be reached")
	}
}

func (c *checker) prefixes(key string, list []string) {
	for i, s := range list {
		p, err := netip.ParsePrefix(s)
		path := at(key, i)
		switch {
		case err != nil:
			c.bad(path, s, "must be a range of addresses", "write 10.96.0.0/12")
		case p != p.Masked():
			c.bad(path, s, "must have no bits set beyond its length", "write "+p.Masked().String())
		}
	}
}

func (c *checker) upstream() {
	u := &c.node.Upstream
	c.roots("upstream.roots", &u.Roots)
	for i, r := range u.Resolvers {
		if _, err := netip.ParseAddrPort(r); err != nil {
			c.bad(at("upstream.resolvers", i), r, "must be ip:port", "write 10.0.0.10:53")
		}
	}
	c.prefixes("upstream.nat64", u.NAT64)
	for i, s := range u.NAT64 {
		if p, err := netip.ParsePrefix(s); err == nil && (!p.Addr().Is6() || !slices.Contains([]int{32, 40, 48, 56, 64, 96}, p.Bits())) {
			c.bad(at("upstream.nat64", i), s, "must be an IPv6 range of 32, 40, 48, 56, 64 or 96 bits (RFC 6052)", "")
		}
	}
	if u.Proxy != nil {
		c.upstreamProxy(u.Proxy)
	}
}

func (c *checker) upstreamProxy(p *UpstreamProxy) {
	u, err := url.Parse(p.URL)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Port() == "" || u.Hostname() == "":
		c.bad("upstream.proxy.url", p.URL, "must be http://host:port or https://host:port", "")
	case u.User != nil:
		c.bad("upstream.proxy.url", p.URL, "must not hold a user name or password", "write them as username and password, the latter a file")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		c.bad("upstream.proxy.url", p.URL, "must end after the port", "")
	case u.Scheme == "http" && p.Roots != "":
		c.bad("upstream.proxy.roots", p.Roots, "must not be set for an http proxy, it would be ignored", "")
	}
	c.roots("upstream.proxy.roots", &p.Roots)
	if (p.Username == "") != (p.Password == "") {
		c.bad("upstream.proxy", "", "must have both of username and password, or neither", "")
	}
	if p.Password != "" {
		c.secretFile("upstream.proxy.password", &p.Password)
	}
}

func (c *checker) audit() {
	a := &c.node.Audit
	if a.File == "-" {
		for _, key := range []string{"audit.maxSize", "audit.maxFiles"} {
			if c.written(key) {
				c.bad(key, "", "must not be set for standard output, it would be ignored", "set audit.file")
			}
		}
		return
	}
	c.output("audit.file", &a.File, "must be a file in a folder that exists, or - for standard output")
}

// output resolves the path of a file that egret writes, and checks that it can.
func (c *checker) output(path string, name *string, rule string) {
	shown := *name
	*name = c.abs(shown)
	info, err := c.env.Stat(filepath.Dir(*name))
	if shown == "" || !printable(shown) || err != nil || !info.IsDir() {
		c.bad(path, shown, rule, "")
		return
	}
	if info, err := c.env.Stat(*name); err == nil && info.IsDir() {
		c.bad(path, shown, "must be a file, it is a folder", "")
	}
}
