// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"net"
	"strings"
	"testing"

	"github.com/egret-proxy/egret/config"
)

// TestSteerListener: whether egret steer is there is told of its socket, which is no address
// that egret would have to make.
func TestSteerListener(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	socket := p.file("s.sock")
	p.o.Config.Listeners[0] = config.Listener{
		Name: "pods", Kind: "transparent", Address: config.SteerPrefix + socket,
		Identify: config.Identify{Process: &config.Process{Attestor: "delegated", RootCgroup: true}},
	}
	if f := find(t, Examine(t.Context(), p.o), "listener pods"); f.Level != Warn || !strings.Contains(f.Change, "start egret steer") {
		t.Errorf("without egret steer: %+v", f)
	}
	l, err := net.Listen("unixpacket", socket)
	check(t, err)
	t.Cleanup(func() { _ = l.Close() })
	if f := find(t, Examine(t.Context(), p.o), "listener pods"); f.Level != OK || !strings.Contains(f.Found, "egret steer is there") {
		t.Errorf("with egret steer: %+v", f)
	}
}
