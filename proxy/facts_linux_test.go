// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"net"
	"os"
	"testing"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/internal/sockopt"
)

// pair is a connection over loopback.
func pair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = client.Close(), server.Close() })
	return client, server
}

func openDiag(t *testing.T) *sockopt.Diag {
	t.Helper()
	g, err := sockopt.OpenDiag()
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(g.Close)
	return g
}

func TestFactsOfAConnection(t *testing.T) {
	_, server := pair(t)
	f, err := facts(openDiag(t), server)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.UID != uint32(os.Geteuid()) || f.PIDFD() != -1 {
		t.Errorf("got %+v", f)
	}
}

// TestMUST_I5_EndedConnectionsHaveNoOwner: a caller resets its connection and another
// takes its address. What the first one sent is nobody's.
func TestMUST_I5_EndedConnectionsHaveNoOwner(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	connect := func(from net.Addr) (client, server net.Conn) {
		client, err := (&net.Dialer{LocalAddr: from}).Dial("tcp", l.Addr().String())
		if err == nil {
			server, err = l.Accept()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = client.Close(), server.Close() })
		return client, server
	}
	first, stale := connect(nil)
	if err := errors.Join(first.(*net.TCPConn).SetLinger(0), first.Close()); err != nil {
		t.Fatal(err)
	}
	_, fresh := connect(first.LocalAddr())
	g := openDiag(t)
	f, err := facts(g, stale)
	if !errors.Is(err, identity.ErrGone) || identityRefusal(err).reason != reasonCallerGone {
		t.Errorf("got %+v, %v; want ErrGone", f, err)
	}
	if f, err = facts(g, fresh); err != nil || f.UID != uint32(os.Geteuid()) {
		t.Errorf("the one that took its address: %+v, %v", f, err)
	}
}

// TestFactsFailClosed: a listener that cannot ask knows nobody.
func TestFactsFailClosed(t *testing.T) {
	_, server := pair(t)
	if _, err := facts(nil, server); !errors.Is(err, identity.ErrUnknown) {
		t.Errorf("with nothing to ask: %v", err)
	}
	client, _ := net.Pipe()
	defer client.Close()
	if _, err := facts(openDiag(t), client); !errors.Is(err, identity.ErrUnknown) {
		t.Errorf("of what is no socket: %v", err)
	}
}
