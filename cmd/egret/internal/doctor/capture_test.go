// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/internal/redirect"
)

// captured is what is said about a place with one transparent listener.
func captured(t *testing.T, l config.Listener, found redirect.Found, err error, ports ...uint16) []Finding {
	t.Helper()
	p := newPlace(t)
	l.Name, l.Kind, l.Address = "pod4", "transparent", "127.0.0.1:0"
	p.o.Config.Listeners = []config.Listener{l}
	p.o.Firewall = func(context.Context) (redirect.Found, error) { return found, err }
	p.o.Listening = func() []uint16 { return ports }
	return Examine(t.Context(), p.o)
}

func said(list []Finding, check string) (out []Finding) {
	return slices.DeleteFunc(slices.Clone(list), func(f Finding) bool { return f.Check != check })
}

// TestRedirection: the rules are held against the listeners, and a mesh's are told with
// what they mean, however they are seen.
func TestRedirection(t *testing.T) {
	t.Parallel()
	sidecar := config.Identify{Sidecar: &config.Sidecar{}}
	plain, tproxy := config.Listener{Identify: sidecar}, config.Listener{Identify: sidecar, TProxy: true}
	nft := []redirect.Backend{redirect.Nft}
	mesh := redirect.Mesh{Kind: redirect.Linkerd, Evidence: ":PROXY_INIT_OUTPUT - [0:0]"}
	no := fmt.Errorf("nft: %w", redirect.ErrPrivilege)
	for name, x := range map[string]struct {
		l     config.Listener
		found redirect.Found
		err   error
		ports []uint16
		check string
		level Level
		text  string
	}{
		"rules":            {l: plain, found: redirect.Found{Backends: nft}, check: redirection, level: OK, text: "by nft, mode redirect"},
		"of TPROXY":        {l: tproxy, found: redirect.Found{Backends: nft, TProxy: true}, check: redirection, level: OK, text: "mode tproxy"},
		"none":             {l: plain, check: redirection, level: Warn, text: "nothing is captured"},
		"of another mode":  {l: plain, found: redirect.Found{Backends: nft, TProxy: true}, check: redirection, level: Fail, text: "cannot take"},
		"of the other one": {l: tproxy, found: redirect.Found{Backends: nft}, check: redirection, level: Warn, text: "those of REDIRECT"},
		"a mesh":           {l: plain, found: redirect.Found{Backends: nft, Meshes: []redirect.Mesh{mesh}}, check: meshCheck, level: Fail, text: "Linkerd takes"},
		"no right to look": {l: plain, err: no, check: redirection, level: OK, text: "were not looked at"},
		"a mesh's proxy":   {l: plain, err: no, ports: []uint16{15001, 15006, 15008}, check: meshCheck, level: Fail, text: "Istio (ambient) takes"},
		"no program":       {l: plain, err: errors.New("neither nft nor iptables"), check: redirection, level: Warn, text: "neither nft"},
	} {
		list := captured(t, x.l, x.found, x.err, x.ports...)
		got := said(list, x.check)
		if len(got) != 1 || got[0].Level != x.level || !strings.Contains(got[0].Found, x.text) || (got[0].Change == "") != (x.level == OK) {
			t.Errorf("%s: %+v", name, got)
		}
		if x.check != meshCheck && len(said(list, meshCheck)) != 0 {
			t.Errorf("%s: a mesh is told: %+v", name, said(list, meshCheck))
		}
		if len(said(list, "encrypted ClientHello")) != 1 {
			t.Errorf("%s: nothing is said of ECH", name)
		}
	}
}

// TestSourcePorts: where programs are to be found by their sockets, REDIRECT hides some.
func TestSourcePorts(t *testing.T) {
	t.Parallel()
	process := config.Listener{Identify: config.Identify{Process: &config.Process{Attestor: "delegated", RootCgroup: true}}}
	if got := said(captured(t, process, redirect.Found{}, nil), "source ports at pod4"); len(got) != 1 || got[0].Level != Warn || !strings.Contains(got[0].Change, "tproxy") {
		t.Errorf("%+v", got)
	}
	process.TProxy = true
	if got := said(captured(t, process, redirect.Found{}, nil), "source ports at pod4"); len(got) != 0 {
		t.Errorf("with TPROXY: %+v", got)
	}
}

// TestNothingIsCaptured: without transparent listeners nobody looks at rules.
func TestNothingIsCaptured(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.o.Firewall = func(context.Context) (redirect.Found, error) { t.Error("it looked"); return redirect.Found{}, nil }
	if list := Examine(t.Context(), p.o); len(said(list, "encrypted ClientHello")) != 0 {
		t.Error("of ECH something is said")
	}
}

func TestListeningPorts(t *testing.T) {
	const table = "  sl  local_address rem_address   st tx_queue\n   0: 00000000:3A99 00000000:0000 0A 0\n   1: 0100007F:21CA 0100007F:9C40 01 0\n   2: 00000000000000000000000001000000:3A9E 0:0000 0A 0\n   3: bad\n"
	if got := listeningIn(table); !slices.Equal(got, []uint16{15001, 15006}) {
		t.Errorf("got %v", got)
	}
}
