// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// Ports that Istio's sidecar takes for itself in a pod; traffic to them is either
// swallowed or bypasses egret.
const (
	istioFirst = 15000
	istioLast  = 15100
)

// maxUnixPath is what fits into sockaddr_un on Linux, with its closing zero.
const maxUnixPath = 107

var (
	listenerName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	systemdName  = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,255}$`)
)

// SteerPrefix begins the address of a listener whose sockets egret steer passes; the path
// of its socket follows.
const SteerPrefix = "steer://"

func (c *checker) listeners() {
	if len(c.node.Listeners) == 0 {
		c.bad("listeners", "", "must hold at least one listener", "")
	}
	names, addresses := map[string]int{}, map[string]int{}
	for i := range c.node.Listeners {
		l := &c.node.Listeners[i]
		entry := at("listeners", i)
		c.listenerName(entry, l.Name)
		c.unique(entry+".name", l.Name, names, i)
		kind := c.address(entry+".address", l.Address)
		if !strings.HasSuffix(l.Address, ":0") {
			c.unique(entry+".address", l.Address, addresses, i)
		}
		if l.TLS != nil {
			c.pair(entry+".tls.cert", &l.TLS.Cert, entry+".tls.key", &l.TLS.Key)
		}
		c.identify(entry, l, kind)
		c.captures(entry, l, kind)
	}
}

// captures checks what a listener for redirected connections cannot have: their clients
// know of no proxy.
func (c *checker) captures(entry string, l *Listener, r reach) {
	switch {
	case l.Kind != kindTransparent && r == reachPods:
		c.bad(entry+".address", l.Address, "must not be that of egret steer for kind: "+l.Kind, "set kind: transparent: connections of pods are redirected")
	case l.Kind != kindTransparent && l.TProxy:
		c.bad(entry+".tproxy", "true", "must not be set for kind: "+l.Kind+", it would be ignored", "")
	case l.Kind != kindTransparent:
	case c.env.GOOS != "linux":
		c.bad(entry+".kind", l.Kind, "is only there on Linux", "use kind: forward")
	case r == reachUnix:
		c.bad(entry+".address", l.Address, "must be ip:port for kind: transparent: only TCP is redirected", "write 127.0.0.1:8650")
	case r == reachPods && l.TProxy:
		c.bad(entry+".tproxy", "true", "must not be set for pods that egret steer leads here, it would be ignored", "")
	case r == reachPods && l.Identify.Process == nil:
		c.bad(entry+".identify", "", "must be process for pods that egret steer leads here: many workloads come in", "write identify: {process: {attestor: delegated}}")
	case l.TLS != nil:
		c.bad(entry+".tls", "", "must not be set for kind: transparent: the client's TLS is for the host that it calls", "")
	case l.Identify.Sidecar == nil && l.Identify.Process == nil:
		c.bad(entry+".identify", "", "must be sidecar or process for kind: transparent: a redirected client shows nothing by itself",
			"or use kind: forward for clients that show an SVID or a token")
	}
}

func (c *checker) listenerName(entry, name string) {
	if !listenerName.MatchString(name) {
		c.bad(entry+".name", name, "must be 1 to 63 lower-case letters, digits and dashes", "")
	}
}

func (c *checker) unique(path, value string, seen map[string]int, i int) {
	if first, ok := seen[value]; ok && value != "" {
		c.bad(path, value, fmt.Sprintf("must be unique, listeners[%d] has it too", first), "")
		return
	}
	seen[value] = i
}

// reach says from where a listener can be reached. The zero value is everywhere.
type reach int

const (
	reachAnywhere reach = iota
	reachUnknown        // the address is systemd's
	reachNowhere        // not an address: it has its fault
	reachLoopback
	reachUnix
	reachPods // sockets in network namespaces of pods, which egret steer passes
)

// local reports whether only processes of this network namespace (or with access to
// the socket's file) can reach it.
func (r reach) local() bool { return r == reachLoopback || r == reachUnix || r == reachPods }

// address checks the form of a listener's address.
func (c *checker) address(path, address string) reach {
	if name, ok := strings.CutPrefix(address, "systemd:"); ok {
		if !systemdName.MatchString(name) {
			c.bad(path, address, "must be systemd: and the FileDescriptorName= of a socket unit", "")
			return reachNowhere
		}
		return reachUnknown
	}
	if file, ok := strings.CutPrefix(address, SteerPrefix); ok {
		c.socketPath(path, address, file)
		return reachPods
	}
	if file, ok := strings.CutPrefix(address, "unix://"); ok {
		c.socketPath(path, address, file)
		return reachUnix
	}
	return c.hostPort(path, address, "ip:port, unix:///path, systemd:NAME or steer:///path")
}

func (c *checker) socketPath(path, shown, file string) {
	switch {
	case !strings.HasPrefix(file, "/"):
		c.bad(path, shown, "must be an absolute path", "write it with three slashes, as in unix:///run/egret/NAME.sock")
	case len(file) > maxUnixPath || !printable(file) || strings.HasSuffix(file, "/"):
		c.bad(path, shown, fmt.Sprintf("must be a path of at most %d printable bytes", maxUnixPath), "")
	}
}

// hostPort checks an address of the form IP:port; forms names what may stand there.
// Names are refused, since what they
// mean is decided elsewhere and may change.
func (c *checker) hostPort(path, address, forms string) reach {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		c.bad(path, address, "must be "+forms, addressHint(address))
		return reachNowhere
	}
	if p := ap.Port(); p >= istioFirst && p <= istioLast {
		c.bad(path, address, fmt.Sprintf("must not use a port from %d to %d", istioFirst, istioLast),
			"Istio's sidecar takes them in every pod of a mesh; 8630 and up are free")
	}
	if ap.Addr().Unmap().IsLoopback() {
		return reachLoopback
	}
	return reachAnywhere
}

func addressHint(address string) string {
	host, port, ok := cutLast(address, ":")
	if n, err := strconv.Atoi(port); !ok || err != nil || n < 0 || n > 65535 {
		return "write 127.0.0.1:8630"
	}
	switch host {
	case "":
		return "write 0.0.0.0:" + port + " for every address of the machine, 127.0.0.1:" + port + " for this machine only"
	case "localhost":
		return "write 127.0.0.1:" + port
	}
	return "write an IP address, not a name"
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// identify checks that a listener says by exactly one way who its callers are, and
// that this way is sound there (MUST I13).
//
// An address that is none has its fault already, and loads nothing.
func (c *checker) identify(entry string, l *Listener, r reach) {
	id := l.Identify
	set := 0
	for _, is := range []bool{id.Sidecar != nil, id.X509SVID != nil, id.JWTSVID != nil, id.Process != nil, id.KubernetesToken != nil} {
		if is {
			set++
		}
	}
	if set != 1 {
		c.bad(entry+".identify", "", "must have exactly one of sidecar, x509SVID, jwtSVID, process, kubernetesToken", "")
		return
	}
	switch {
	case r == reachNowhere:
	case id.Sidecar != nil:
		c.sidecar(entry, l.Address, *id.Sidecar, r)
	case id.X509SVID != nil && l.TLS == nil:
		c.bad(entry+".tls", "", "must be set for x509SVID: the client certificate is part of the TLS handshake", "")
	case id.JWTSVID != nil:
		c.bearer(entry, "jwtSVID", l, r)
		c.audience(entry+".identify.jwtSVID.audience", id.JWTSVID.Audience)
	case id.Process != nil:
		c.process(entry, l.Address, id.Process, r)
	case id.KubernetesToken != nil:
		c.bearer(entry, "kubernetesToken", l, r)
		c.kubernetesToken(entry+".identify.kubernetesToken", id.KubernetesToken)
	}
}

func (c *checker) sidecar(entry, address string, s Sidecar, r reach) {
	switch {
	case r == reachAnywhere:
		c.bad(entry+".address", address, "must be a loopback address or a unix socket for sidecar: whoever reaches it acts as the workload",
			"write 127.0.0.1:PORT, or identify callers by x509SVID")
	case s.SameUser && c.env.GOOS != "linux":
		c.bad(entry+".identify.sidecar.sameUser", "true", "is only known on Linux", "identify callers by jwtSVID or x509SVID")
	case s.SameUser:
	case r == reachUnknown:
		c.bad(entry+".identify.sidecar", "", "must have sameUser: true on a systemd socket, whose address is not known here", "")
	case c.env.HostNetwork():
		c.bad(entry+".identify.sidecar", "", "must have sameUser: true in the host's network namespace, where every user of the machine can connect",
			"or run egret in the workload's own network namespace, or identify callers by x509SVID or jwtSVID")
	}
}

// bearer refuses a token where others on the way could read it (MUST I13).
func (c *checker) bearer(entry, way string, l *Listener, r reach) {
	if l.TLS == nil && !r.local() {
		c.bad(entry+".tls", "", "must be set for "+way+" on an address that is not loopback or a unix socket: the token is a bearer secret",
			"add tls: {cert: …, key: …}")
	}
}

func (c *checker) audience(path, aud string) {
	if aud == "" || len(aud) > maxKey || !printable(aud) {
		c.bad(path, aud, "must be the audience that tokens for this egret have, 1 to 253 printable bytes", "")
	}
}
