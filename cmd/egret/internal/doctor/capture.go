// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"

	"github.com/egret-proxy/egret/cmd/egret/internal/steering"
	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/internal/ops"
	"github.com/egret-proxy/egret/internal/redirect"
)

const (
	redirection = "redirection"
	meshCheck   = "service mesh"
)

// capture looks at what brings connections to transparent listeners: the rules of this
// network namespace, a mesh's among them, and the pods that egret steer leads here.
func (e *examination) capture(ctx context.Context) {
	var here []config.Listener
	steered := map[string]bool{}
	for _, l := range e.Config.Listeners {
		if l.Kind != "transparent" {
			continue
		}
		if socket, ok := strings.CutPrefix(l.Address, config.SteerPrefix); ok {
			steered[socket] = true
			continue
		}
		here = append(here, l)
	}
	if len(here) > 0 {
		e.rules(ctx, here)
		e.sources(here)
	}
	for socket := range steered {
		e.pods(ctx, filepath.Join(filepath.Dir(socket), "control.sock"))
	}
	if len(here)+len(steered) > 0 {
		e.ok("encrypted ClientHello", "the outer server name is the target: a client whose true name is inside gets no further than the outer one, and GREASE, which looks the same, changes nothing (records say ech)")
	}
}

// rules looks at the firewall, where this process may, and else for a mesh's proxy.
func (e *examination) rules(ctx context.Context, here []config.Listener) {
	found, err := e.Firewall(ctx)
	if errors.Is(err, redirect.ErrPrivilege) {
		e.ok(redirection, "the rules were not looked at, which takes CAP_NET_ADMIN: run egret doctor as root here, too")
		for _, m := range redirect.MeshByPorts(e.Listening()) {
			e.mesh(m)
		}
		return
	}
	if err != nil {
		e.bad(Warn, redirection, "install nft or iptables where the rules are made, or look at them there", err)
		return
	}
	for _, m := range found.Meshes {
		e.mesh(m)
	}
	e.ownRules(found, here)
}

// mesh tells what it means that a mesh takes the same connections.
func (e *examination) mesh(m redirect.Mesh) {
	e.bad(Fail, meshCheck, m.Advice(), fmt.Sprintf("%s takes the connections of this network namespace too (%s): what comes by its proxy is the proxy's own connection, which proves the pod and no container or program of it, and egret's calls may go round between the two", m.Kind, m.Evidence))
}

func (e *examination) ownRules(found redirect.Found, here []config.Listener) {
	if len(found.Backends) == 0 {
		e.bad(Warn, redirection, "egret redirect apply, as root in this network namespace", "no rules of egret are here: nothing is captured")
		return
	}
	for _, l := range here {
		switch {
		case found.TProxy && !l.TProxy:
			e.bad(Fail, redirection, "set tproxy: true, or apply the rules with --mode redirect", "the rules are those of TPROXY, and listener "+l.Name+" cannot take what they hand over")
			return
		case !found.TProxy && l.TProxy:
			e.bad(Warn, redirection, "apply the rules with --mode tproxy, or leave tproxy out", "listener "+l.Name+" is for TPROXY, and the rules are those of REDIRECT")
			return
		}
	}
	mode := redirect.Redirect
	if found.TProxy {
		mode = redirect.TProxy
	}
	e.ok(redirection, "egret's rules are here, by %s, mode %s", found.Backends[0], mode)
}

// sources tells where REDIRECT hides programs from those who ask for them.
func (e *examination) sources(here []config.Listener) {
	for _, l := range here {
		if l.Identify.Process != nil && !l.TProxy {
			e.bad(Warn, "source ports at "+l.Name, "use --mode tproxy and tproxy: true, with which no port is changed",
				"with REDIRECT the kernel gives a connection another port where the program's is in use towards another destination (for two minutes after its end, too); its program cannot be found then, and it is refused (identity/port_rewritten)")
		}
	}
}

// pods asks egret steer about those that it leads here. It answers root alone.
func (e *examination) pods(ctx context.Context, control string) {
	const check = "steered pods"
	if uid() != 0 {
		e.ok(check, "a pod that a service mesh has is left as it is, and listed as failed: sudo egret steer list")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, e.Wait)
	defer cancel()
	var list []steering.Pod
	if err := ops.Do(ctx, ops.Dial(control), ops.Call{Method: http.MethodGet, Path: "/v1/pods", Out: &list}); err != nil {
		e.bad(Warn, check, "start egret steer, or ask it by egret steer list --control", err)
		return
	}
	served := 0
	for _, p := range list {
		if p.Error == "" {
			served++
			continue
		}
		e.bad(Warn, check, "see what it says; egret steer tries again when the pod is told of anew", podName(p)+" is not served: "+p.Error)
	}
	e.ok(check, "%d of %d are served or about to be", served, len(list))
}

func podName(p steering.Pod) string {
	if p.Name != "" {
		return p.Namespace + "/" + p.Name
	}
	return p.Key
}

// firewall is that of the network namespace that this process is in.
func firewall(ctx context.Context) (redirect.Found, error) {
	if err := redirect.Privileged(); err != nil {
		return redirect.Found{}, err
	}
	return redirect.NewFirewall(redirect.NewRunner()).Look(ctx)
}

// listeningIn reads the ports that are listened on from a table of /proc/net/tcp.
func listeningIn(table string) []uint16 {
	const listen = "0A" // TCP_LISTEN
	var out []uint16
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 4 || f[3] != listen {
			continue
		}
		_, hex, _ := strings.Cut(f[1], ":")
		var port uint16
		if n, err := fmt.Sscanf(hex, "%04X", &port); n == 1 && err == nil && !slices.Contains(out, port) {
			out = append(out, port)
		}
	}
	return out
}
