// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"fmt"
	"slices"
	"strings"
)

// MeshKind is whose redirection it is.
type MeshKind string

// Kinds.
const (
	IstioSidecar MeshKind = "Istio (sidecar)"
	IstioAmbient MeshKind = "Istio (ambient)"
	Linkerd      MeshKind = "Linkerd"
)

// Mesh is the redirection of a service mesh, and the rule or chain by which it is known.
type Mesh struct {
	Kind     MeshKind
	Evidence string
}

// Advice says what to do where egret is to see the connections.
func (m Mesh) Advice() string {
	const orProxy = "; or leave the rules out and lead its egress to egret as a forward proxy (HTTPS_PROXY)"
	switch m.Kind {
	case IstioAmbient:
		return "take the pod out of the mesh (istio.io/dataplane-mode: none)" + orProxy
	case Linkerd:
		return "take the pod out of the mesh (linkerd.io/inject: disabled)" + orProxy
	}
	return "take the pod out of the mesh (sidecar.istio.io/inject: \"false\")" + orProxy
}

// MeshError refuses to add rules beside those of a mesh. Each side leaves its own proxy's
// connections alone and none of the other's: egret would call through the mesh's proxy,
// whose connection is captured and comes to egret again.
type MeshError struct{ Mesh Mesh }

// Error implements error.
func (e MeshError) Error() string {
	return fmt.Sprintf("the redirection of %s is here already (%q): nothing is changed, since both would take the same connections and each the other's; %s",
		e.Mesh.Kind, clip(e.Mesh.Evidence), e.Mesh.Advice())
}

// sign is a text in a rule or in a chain's or table's name that tells of a mesh.
type sign struct {
	kind MeshKind
	text []string
}

// signs are in the order in which a line is held against them: names that one kind alone
// has come first. Ports, marks and names are those that the projects' own programs write
// (istio-iptables, istio-nftables, istio-cni, linkerd2-proxy-init).
func signs() []sign {
	return []sign{
		{Linkerd, []string{"PROXY_INIT_"}},
		{IstioAmbient, []string{"ISTIO_PRERT", "istio-ambient-", "0x539/0xfff", "& 0x00000fff != 0x00000539", "& 0x00000fff == 0x00000539", "--on-port 15008", "--to-ports 15008", "to :15008"}},
		{IstioSidecar, []string{
			"ISTIO_", "istio-proxy-", "chain istio-", "--to-ports 15001", "--to-ports 15006", "--on-port 15001", "--on-port 15006", "to :15001", "to :15006",
		}},
	}
}

// findMeshes reads a ruleset as nft or iptables-save prints it. What both of Istio's modes
// have counts for ambient where anything tells of that.
func findMeshes(dump string) []Mesh {
	var out []Mesh
	for line := range strings.Lines(dump) {
		line = strings.TrimSpace(line)
		for _, s := range signs() {
			if slices.ContainsFunc(s.text, func(t string) bool { return hasSign(line, t) }) {
				out = mergeMeshes(out, []Mesh{{s.kind, line}})
				break
			}
		}
	}
	return out
}

// hasSign reports whether the text is there, and does not go on as a longer number would.
func hasSign(line, text string) bool {
	const digits = "0123456789abcdef"
	_, after, ok := strings.Cut(line, text)
	return ok && (after == "" || strings.IndexByte(digits, text[len(text)-1]) < 0 || strings.IndexByte(digits, after[0]) < 0)
}

// mergeMeshes keeps the first evidence of each kind.
func mergeMeshes(a, b []Mesh) []Mesh {
	for _, m := range b {
		if !slices.ContainsFunc(a, func(x Mesh) bool { return x.Kind == m.Kind }) {
			a = append(a, m)
		}
	}
	if slices.ContainsFunc(a, func(x Mesh) bool { return x.Kind == IstioAmbient }) {
		a = slices.DeleteFunc(a, func(x Mesh) bool { return x.Kind == IstioSidecar })
	}
	return a
}

// MeshByPorts tells of a mesh whose proxy listens in this network namespace, for those who
// may not look at rules: a pair of ports that its proxy has and hardly anybody else.
func MeshByPorts(listening []uint16) []Mesh {
	var out []Mesh
	for _, p := range []struct {
		kind  MeshKind
		ports []uint16
	}{
		{IstioAmbient, []uint16{15001, 15006, 15008}},
		{IstioSidecar, []uint16{15001, 15006}},
		{Linkerd, []uint16{4140, 4143}},
	} {
		if !slices.ContainsFunc(p.ports, func(x uint16) bool { return !slices.Contains(listening, x) }) {
			out = mergeMeshes(out, []Mesh{{p.kind, "ports " + joinPorts(p.ports, ", ") + " are listened on"}})
		}
	}
	return out
}
