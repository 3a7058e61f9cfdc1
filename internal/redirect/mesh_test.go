// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"errors"
	"strings"
	"testing"
)

// meshDumps are rulesets as the meshes' own programs make them, cut to what they are known
// by.
func meshDumps() map[string]struct {
	kind MeshKind
	dump string
} {
	type d = struct {
		kind MeshKind
		dump string
	}
	return map[string]d{
		"istio-iptables":            {IstioSidecar, "*nat\n:ISTIO_INBOUND - [0:0]\n:ISTIO_OUTPUT - [0:0]\n:ISTIO_REDIRECT - [0:0]\n-A OUTPUT -j ISTIO_OUTPUT\n-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001\nCOMMIT\n"},
		"istio-iptables, TPROXY":    {IstioSidecar, "*mangle\n:ISTIO_DIVERT - [0:0]\n:ISTIO_TPROXY - [0:0]\n-A ISTIO_TPROXY ! -d 127.0.0.1/32 -p tcp -j TPROXY --on-port 15006 --on-ip 0.0.0.0 --tproxy-mark 0x539/0xffffffff\n"},
		"only a redirection":        {IstioSidecar, "*nat\n-A OUTPUT -p tcp -j REDIRECT --to-ports 15001\nCOMMIT\n"},
		"istio-nftables":            {IstioSidecar, "table inet istio-proxy-nat {\n\tchain istio-redirect {\n\t\tmeta l4proto tcp redirect to :15001\n\t}\n}\n"},
		"iptables-nft, seen by nft": {IstioSidecar, "table ip nat {\n\tchain ISTIO_OUTPUT {\n\t\tmeta l4proto tcp counter packets 0 bytes 0 jump ISTIO_REDIRECT\n\t}\n}\n"},
		"istio-cni, ambient":        {IstioAmbient, "*mangle\n:ISTIO_OUTPUT - [0:0]\n:ISTIO_PRERT - [0:0]\n-A PREROUTING -j ISTIO_PRERT\n-A ISTIO_PRERT -m mark --mark 0x539/0xfff -j CONNMARK --set-xmark 0x111/0xfff\n*nat\n-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -p tcp -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15001\n"},
		"istio-cni, nftables":       {IstioAmbient, "table inet istio-ambient-nat {\n\tchain istio-output {\n\t\tmeta l4proto tcp meta mark & 0x00000fff != 0x00000539 redirect to :15001\n\t}\n}\n"},
		"linkerd2-proxy-init":       {Linkerd, "*nat\n:PROXY_INIT_OUTPUT - [0:0]\n:PROXY_INIT_REDIRECT - [0:0]\n-A OUTPUT -m comment --comment \"proxy-init/install-proxy-init-output\" -j PROXY_INIT_OUTPUT\n-A PROXY_INIT_OUTPUT -p tcp -j REDIRECT --to-ports 4140\n"},
	}
}

// TestMeshesAreFound: by whichever program they came in, and nothing is changed then.
func TestMeshesAreFound(t *testing.T) {
	p, err := New(Nft, usual())
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range meshDumps() {
		if got := findMeshes(x.dump); len(got) != 1 || got[0].Kind != x.kind || got[0].Evidence == "" {
			t.Errorf("%s: %+v", name, got)
		}
		for _, program := range []string{"nft", "iptables-nft-save", "ip6tables-legacy-save"} {
			answers := map[string]string{"nft": "", "iptables-nft-save": "", "iptables-legacy-save": "", "ip6tables-legacy-save": ""}
			answers[program] = x.dump
			r := &recorded{answers: answers}
			err := NewFirewall(r).Apply(t.Context(), p)
			var mesh MeshError
			if !errors.As(err, &mesh) || len(r.given) != 0 || !strings.Contains(err.Error(), "take the pod out of the mesh") {
				t.Errorf("%s by %s: %v, given %q", name, program, err, r.given)
			}
		}
	}
}

// TestNoMesh: what others have, and what looks like it.
func TestNoMesh(t *testing.T) {
	for _, dump := range []string{
		emptySave, saveOf(familyV4, usual()), saveOf(familyV6, routed65(everything())), "*nat\n:OUTPUT ACCEPT [15008:15001]\n:KUBE-MARK-MASQ - [0:0]\n",
		"-A X -p tcp -j REDIRECT --to-ports 150011\n", "-A X -j MARK --set-xmark 0x5390/0xffff\n", "-A OUTPUT -p tcp --dport 15001 -j ACCEPT\n",
	} {
		if got := findMeshes(dump); len(got) != 0 {
			t.Errorf("%+v in\n%s", got, dump)
		}
	}
	both := findMeshes("-A OUTPUT -j PROXY_INIT_OUTPUT\n-A OUTPUT -j ISTIO_OUTPUT\n")
	if len(both) != 2 || both[0].Kind != Linkerd || both[1].Kind != IstioSidecar {
		t.Errorf("of two: %+v", both)
	}
}

// FuzzMeshes: evidence is always a line of the ruleset, and each kind is told once.
func FuzzMeshes(f *testing.F) {
	for _, x := range meshDumps() {
		f.Add(x.dump)
	}
	f.Fuzz(func(t *testing.T, dump string) {
		seen := map[MeshKind]bool{}
		for _, m := range findMeshes(dump) {
			if seen[m.Kind] || !strings.Contains(dump, m.Evidence) || m.Advice() == "" {
				t.Errorf("%+v in %q", m, dump)
			}
			seen[m.Kind] = true
		}
	})
}

func TestMeshByPorts(t *testing.T) {
	for name, x := range map[string]struct {
		ports []uint16
		want  []MeshKind
	}{
		"nothing":       {nil, nil},
		"one of two":    {[]uint16{15001, 4143, 443}, nil},
		"Envoy":         {[]uint16{15006, 15090, 15001}, []MeshKind{IstioSidecar}},
		"ztunnel":       {[]uint16{15008, 15006, 15001}, []MeshKind{IstioAmbient}},
		"linkerd-proxy": {[]uint16{4143, 4140}, []MeshKind{Linkerd}},
	} {
		got := MeshByPorts(x.ports)
		if len(got) != len(x.want) || len(got) == 1 && got[0].Kind != x.want[0] {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
