// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// process checks that the kernel can say who connects: the other end must be a process
// of this machine (MUST I13).
func (c *checker) process(entry, address string, p *Process, r reach) {
	if p.Reference != "" && p.Attestor != attestBroker {
		c.bad(entry+".identify.process.reference", p.Reference, "must not be set without attestor: broker, it would be ignored", "")
	}
	switch {
	case r == reachUnknown:
		c.bad(entry+".address", address, "must not be a systemd socket for process: it is not known here whether it is local",
			"write 127.0.0.1:PORT or unix:///path")
	case !r.local():
		c.bad(entry+".address", address, "must be a loopback address or a unix socket for process: the kernel knows callers of this machine only",
			"write 127.0.0.1:PORT or unix:///path, or identify callers by x509SVID")
	case c.env.GOOS != "linux":
		c.bad(entry+".identify.process", "", "is only known on Linux", "identify callers by jwtSVID or x509SVID")
	}
}

// kubernetesToken checks what tokens are reviewed by. The files are looked for at start
// as well, since the kubelet replaces them.
func (c *checker) kubernetesToken(entry string, k *KubernetesToken) {
	c.audience(entry+".audience", k.Audience)
	c.tokenID(entry+".id", k.ID)
	u, err := url.Parse(k.Server)
	switch {
	case err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil:
		c.bad(entry+".server", k.Server, "must be https://host:port", "leave it out in a pod: "+inClusterServer)
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		c.bad(entry+".server", k.Server, "must end after the port", "")
	}
	c.roots(entry+".ca", &k.CA)
	c.readable(entry+".tokenFile", &k.TokenFile)
	if !printable(k.Node) || len(k.Node) > maxKey {
		c.bad(entry+".node", k.Node, "must be the name of a Kubernetes node", "")
	}
}

// tokenID checks the template of IDs: each slot once, as a whole segment, since two
// service accounts must never get one ID.
func (c *checker) tokenID(at, template string) {
	parts := strings.Split(template, "/")
	filled, slots := slices.Clone(parts), 0
	for i, p := range parts {
		if p == "{namespace}" || p == "{serviceAccount}" {
			filled[i] = "x"
			slots++
		}
	}
	id, err := spiffeid.FromString(strings.Join(filled, "/"))
	switch {
	case err != nil || slots != 2 || !slices.Contains(parts, "{namespace}") || !slices.Contains(parts, "{serviceAccount}"):
		c.bad(at, template, "must be a SPIFFE ID with {namespace} and {serviceAccount} once each, as whole segments",
			"write spiffe://"+c.firstTrustDomain()+"/ns/{namespace}/sa/{serviceAccount}")
	case !slices.Contains(c.node.Spiffe.TrustDomains, id.TrustDomain().Name()):
		c.bad(at, template, "must be in one of spiffe.trustDomains", "")
	}
}

// readable resolves a file's path and looks whether it is there.
func (c *checker) readable(at string, file *string) {
	shown := *file
	if shown == "" || !printable(shown) {
		c.bad(at, shown, "must name a file", "")
		return
	}
	*file = c.abs(shown)
	if _, err := c.env.Stat(*file); err != nil {
		c.bad(at, shown, mustBeReadable(err), "")
	}
}

// attestors checks that what process listeners ask is there, and that what is there is
// asked.
func (c *checker) attestors() {
	s := &c.node.Spiffe
	asked, tcp := c.asked()
	c.agentSocket(attestDelegated, s.Delegated, asked)
	c.agentSocket(attestBroker, s.Broker, asked)
	entries := s.Embedded != nil && len(s.Embedded.Entries) > 0
	i, wanted := asked[attestEmbedded]
	switch {
	case wanted && !entries:
		c.bad(at("listeners", i)+".identify.process.attestor", attestEmbedded, "must have spiffe.embedded.entries, which say who callers are", "")
	case entries && !wanted:
		c.bad("spiffe.embedded.entries", "", "must not be set without a listener that identifies by process: {attestor: embedded}, they would be ignored", "")
	}
	if s.Embedded == nil {
		return
	}
	for i := range s.Embedded.Entries {
		c.entry(at("spiffe.embedded.entries", i), &s.Embedded.Entries[i], tcp)
	}
}

// asked returns which attestors are asked, each with a listener that does, and whether
// callers over TCP are told from each other by entries.
func (c *checker) asked() (by map[string]int, tcp bool) {
	by = map[string]int{}
	for i, l := range c.node.Listeners {
		p := l.Identify.Process
		if p == nil {
			continue
		}
		if _, ok := by[p.Attestor]; !ok {
			by[p.Attestor] = i
		}
		tcp = tcp || p.Attestor == attestEmbedded && !strings.HasPrefix(l.Address, "unix://")
	}
	return by, tcp
}

func (c *checker) agentSocket(name string, a *AgentSocket, asked map[string]int) {
	i, wanted := asked[name]
	at, entry := "spiffe."+name, at("listeners", i)+".identify.process.attestor"
	switch {
	case a == nil && wanted:
		c.bad(entry, name, "must have "+at+".socket, where the SPIRE agent is asked", "")
	case a == nil:
	case !wanted:
		c.bad(at, "", "must not be set without a listener that identifies by process: {attestor: "+name+"}, it would be ignored", "")
	case c.node.Spiffe.Embedded != nil:
		c.bad(at, "", "must not be set together with spiffe.embedded: the agent that knows the callers is where egret's own identity comes from", "set spiffe.workloadAPI")
	default:
		file, ok := strings.CutPrefix(a.Socket, "unix://")
		if !ok {
			c.bad(at+".socket", a.Socket, "must be unix:///path", "")
			return
		}
		c.socketPath(at+".socket", a.Socket, file)
	}
}

var (
	digest      = regexp.MustCompile(`^[0-9a-f]{64}$`)
	systemdUnit = regexp.MustCompile(`^[A-Za-z0-9:_.\\@-]{1,240}\.(service|scope|slice|socket|mount|swap)$`)
)

// entry checks one entry of the embedded issuer; tcp: callers come over TCP too, of
// which no more is known than their cgroup and uid.
func (c *checker) entry(at string, e *EmbeddedEntry, tcp bool) {
	c.entryID(at+".spiffeID", e.SpiffeID)
	if len(e.UIDs) == 0 {
		c.bad(at+".uids", "", "must name at least one user", "write the numbers that id -u prints")
	}
	c.ids(at+".uids", "a user id", e.UIDs)
	c.ids(at+".gids", "a group id", e.GIDs)
	if e.Path != "" && !cleanPath(e.Path) {
		c.bad(at+".path", e.Path, "must be an absolute path", "")
	}
	if e.SHA256 != "" && !digest.MatchString(e.SHA256) {
		c.bad(at+".sha256", e.SHA256, "must be 64 lower-case hex digits", "sha256sum prints them")
	}
	if e.Cgroup != "" && (!cleanPath(e.Cgroup) || e.Cgroup == "/") {
		c.bad(at+".cgroup", e.Cgroup, "must be a path below /, without a slash at the end", "write it as /proc/PID/cgroup has it after 0::")
	}
	if e.Unit != "" && !systemdUnit.MatchString(e.Unit) {
		c.bad(at+".unit", e.Unit, "must be a systemd unit with its suffix", "write nightly.service")
	}
	if tcp {
		c.finer(at, e)
	}
}

func cleanPath(p string) bool { return filepath.IsAbs(p) && filepath.Clean(p) == p && printable(p) }

// finer refuses what could tell processes of one cgroup and user apart where a TCP
// listener asks: another of them could answer for the caller.
func (c *checker) finer(at string, e *EmbeddedEntry) {
	for _, x := range []struct {
		name string
		set  bool
	}{{"gids", len(e.GIDs) > 0}, {"path", e.Path != ""}, {"sha256", e.SHA256 != ""}} {
		if x.set {
			c.bad(at+"."+x.name, "", "must not be set where a TCP listener identifies by process: {attestor: embedded}: the kernel knows its callers by cgroup and uid only",
				"identify them on a unix socket, or write the entry by uids, cgroup or unit")
		}
	}
}

func (c *checker) entryID(at, id string) {
	own, _ := spiffeid.FromString(c.node.Spiffe.Embedded.SpiffeID)
	parsed, err := spiffeid.FromString(id)
	switch {
	case err != nil || parsed.Path() == "":
		c.bad(at, id, "must be a SPIFFE ID with a path", "write spiffe://"+c.firstTrustDomain()+"/NAME")
	case own.IsZero(): // has its fault already
	case parsed == own:
		c.bad(at, id, "must not be egret's own ID: nobody else may have it", "")
	case parsed.TrustDomain() != own.TrustDomain():
		c.bad(at, id, "must be in the trust domain of spiffe.embedded.spiffeID, "+own.TrustDomain().Name(), "")
	}
}

// ids checks numbers of users or groups. The highest is the kernel's word for none.
func (c *checker) ids(key, what string, list []int) {
	for i, n := range list {
		if n < 0 || int64(n) >= 1<<32-1 {
			c.bad(at(key, i), fmt.Sprint(n), "must be "+what, "")
		}
	}
}
