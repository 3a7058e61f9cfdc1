// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package sockopt

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
)

// What redirection does to a connection is tested with real packets (integration/redirect).

func TestOriginalDstOfAnOrdinaryConnection(t *testing.T) {
	for _, x := range []struct{ network, listen, dial string }{
		{"tcp", "127.0.0.1:0", "127.0.0.1"}, {"tcp6", "[::1]:0", "::1"}, {"tcp", "[::]:0", "127.0.0.1"}, // the last is mapped
	} {
		l := listenTCP(t, x.network, x.listen)
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		to := net.JoinHostPort(x.dial, port)
		_ = dial(t, "tcp", to)
		got, err := OriginalDst(accept(t, l))
		if err != nil || got != netip.MustParseAddrPort(to) {
			t.Errorf("%s: %s, %v", x.listen, got, err)
		}
	}
	client, server := net.Pipe()
	defer client.Close()
	if _, err := OriginalDst(server); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a pipe: %v", err)
	}
}

// TestMUST_I5_CapturedFactsAreOfTheVerySocket: the peer is found by where it believes to
// be connected to, and nobody else is taken for it.
func TestMUST_I5_CapturedFactsAreOfTheVerySocket(t *testing.T) {
	l := listenTCP(t, "tcp", "127.0.0.1:0")
	client := dial(t, "tcp", l.Addr().String())
	server := accept(t, l)
	g, err := OpenDiag()
	if err != nil {
		t.Skip(err)
	}
	defer g.Close()
	f, err := g.CapturedFacts(server, netip.MustParseAddrPort(l.Addr().String()))
	if err != nil || f.UID != uint32(os.Geteuid()) || f.Cookie != cookieOf(t, client.(*net.TCPConn)) {
		t.Errorf("got %+v, %v", f, err)
	}
	if f, err := g.CapturedFacts(server, netip.MustParseAddrPort("192.0.2.1:443")); !errors.Is(err, ErrNoOwner) || !errors.Is(err, ErrRewritten) {
		t.Errorf("elsewhere: %+v, %v", f, err)
	}
	if err := errors.Join(client.(*net.TCPConn).SetLinger(0), client.Close()); err != nil {
		t.Fatal(err)
	}
	if f, err := g.CapturedFacts(server, netip.MustParseAddrPort(l.Addr().String())); err == nil {
		t.Errorf("after its end: %+v", f)
	}
}

// TestRightsAreNamed: whoever may not do it is told what is missing.
func TestRightsAreNamed(t *testing.T) {
	if err := CanMark(0); err != nil {
		t.Error(err)
	}
	if err := CanMark(7); err != nil && !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Errorf("mark: %v", err)
	}
	l, err := ListenTransparent(t.Context(), "127.0.0.1:0")
	if err != nil && !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Errorf("transparent: %v", err)
	}
	if l != nil {
		_ = l.Close()
	}
	if err := markError(syscall.EPERM); !errors.Is(err, os.ErrPermission) {
		t.Errorf("got %v", err)
	}
}
