// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"context"
	"os"
	"os/exec"
	"regexp"

	"github.com/egret-proxy/egret/bench/internal/load"
)

// Targets: what the load goes through.
const (
	Direct       = "direct"
	Egret        = "egret"         // callers known by process
	Sidecar      = "egret-sidecar" // callers known by being there; the same process
	Goproxy      = "goproxy"       // with what can be set in its favour
	GoproxyPlain = "goproxy-plain" // as it comes
	Nginx        = "nginx"
	Squid        = "squid"
	Mitmproxy    = "mitmproxy"
	Haproxy      = "haproxy" // tunnels only
)

// Names lists the targets in the order in which a round visits them.
func Names() []string {
	return []string{Direct, Nginx, Haproxy, Goproxy, GoproxyPlain, Squid, Mitmproxy, Egret, Sidecar}
}

// spec says how a target is started and what it is for.
type spec struct {
	start    func(ctx context.Context, r *Rig, dir string) (*instance, error)
	programs []string             // of Debian, besides those of this module
	files    []string             // settings, in package peers
	can      func(load.Spec) bool // nil: everything
	about    string
}

func specs() map[string]spec {
	return map[string]spec{
		Direct: {can: direct, about: "the load has the credential and sends it itself"},
		Nginx: {start: startNginx, programs: []string{"nginx"}, files: []string{"nginx/nginx.conf"}, can: intercepts,
			about: "TLS in, TLS out, one header put in; intercepts nothing, knows one origin; HTTP/1.1 towards the origin, but for gRPC; X25519"},
		Haproxy: {start: startHaproxy, programs: []string{"haproxy"}, files: []string{"haproxy/haproxy.cfg"}, can: tunnels,
			about: "TCP mode, splicing both ways; passes bytes on to one origin, without CONNECT"},
		Goproxy:      {start: startGoproxy(), can: withoutGRPC, about: "goproxy's own MITM with one header put in; certificates cached, ECDSA CA, upstream verified, 256 idle upstream connections kept, HTTP/2 both ways"},
		GoproxyPlain: {start: startGoproxy("-plain"), can: withoutGRPC, about: "goproxy's own MITM with one header put in; certificates and transport as they come, ECDSA CA, upstream verified, HTTP/2 towards clients"},
		Squid: {start: startSquid, programs: []string{"squid", certgen}, files: []string{"squid/squid.conf"}, can: overH1,
			about: "ssl-bump with one header put in; no cache, no log, upstream verified and kept; HTTP/1.1 only"},
		Mitmproxy: {start: startMitmproxy, programs: []string{"mitmdump"}, files: []string{"mitmproxy/inject.py"}, can: slowly,
			about: "mitmdump, quiet, with one header put in; upstream verified, large bodies streamed"},
		Egret:   {start: startEgret, about: "callers known by process (embedded attestor, asked once for each connection), policy, credential from the cache, one record for each request in a file, metrics on; limits on connections raised, else defaults; X25519 towards clients, since they are on the same machine, where goproxy agrees on X25519MLKEM768"},
		Sidecar: {start: startEgret, can: small, about: "the same process as egret, at a listener that credits its own user with its own identity"},
	}
}

// certgen makes squid's certificates.
const certgen = "/usr/lib/squid/security_file_certgen"

// Missing lists the programs that a target needs and that are not on this machine.
func Missing(target string) []string {
	var out []string
	for _, p := range specs()[target].programs {
		if _, err := find(p); err != nil {
			out = append(out, p)
		}
	}
	return out
}

// find looks where Debian puts servers too, which is not on the path of every user.
func find(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		return path, nil
	}
	sbin := "/usr/sbin/" + program
	if info, statErr := os.Stat(sbin); statErr == nil && info.Mode().IsRegular() {
		return sbin, nil
	}
	return "", err
}

// About says in words how a target is set, and Files names its settings in package peers.
func About(target string) (about string, files []string) {
	s := specs()[target]
	return s.about, s.files
}

// Can reports whether a target is able to carry a load, and whether it is worth while.
func Can(target string, s load.Spec) bool {
	can := specs()[target].can
	return can == nil || can(s)
}

// holdMost is how many idle connections are asked of a peer that takes its time for each.
const holdMost = 2000

// direct has no proxy whose memory could be read.
func direct(s load.Spec) bool { return !s.Hold }

func tunnels(s load.Spec) bool { return s.Tunnel }

func intercepts(s load.Spec) bool { return !s.Tunnel }

// withoutGRPC: what comes in is led to the one origin that speaks HTTP.
func withoutGRPC(s load.Spec) bool {
	return !s.Tunnel && s.Kind != load.GRPC && s.Kind != load.Stream
}

func overH1(s load.Spec) bool { return !s.Tunnel && s.Proto == load.H1 }

func slowly(s load.Spec) bool { return withoutGRPC(s) && (!s.Hold || s.Conns <= holdMost) }

// small loads are where the sidecar differs from the node: in how a caller is known.
func small(s load.Spec) bool {
	return withoutGRPC(s) && s.Kind == load.HTTP && !s.Hold && s.Rate == 0 && s.Upload == 0 && s.Bytes < 1<<20
}

// Version asks a peer for its version; empty where it does not say.
func Version(ctx context.Context, target string) string {
	programs := specs()[target].programs
	if len(programs) == 0 {
		return ""
	}
	path, err := find(programs[0])
	if err != nil {
		return ""
	}
	flag := "-v"
	if target == Mitmproxy {
		flag = "--version"
	}
	said, err := exec.CommandContext(ctx, path, flag).CombinedOutput()
	if err != nil {
		return ""
	}
	return regexp.MustCompile(`\d+\.\d+[^\s,]*`).FindString(string(said))
}
