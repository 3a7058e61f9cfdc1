// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/identity"
)

// slowly resolves callers after a while.
type slowly struct {
	identity.Resolver
	while time.Duration
}

func (s slowly) Resolve(ctx context.Context, p identity.Peer) (identity.Caller, error) {
	select {
	case <-time.After(s.while):
	case <-ctx.Done():
	}
	return s.Resolver.Resolve(ctx, p)
}

// TestDrainSeesCapturedClientsThrough: of those that have connected when a drain begins,
// the ones that say something within a second are served, wherever they were on their way
// in; one that says nothing is let go, and nobody waits for it.
func TestDrainSeesCapturedClientsThrough(t *testing.T) {
	w := newWorld(t)
	w.capturing(somewhere, func(e *Entrance) { e.Identity = slowly{e.Identity, 200 * time.Millisecond} })
	const clients = 8
	answers := make(chan string, clients)
	speak := make(chan struct{})
	for n := range clients {
		conn := must(net.Dial("tcp", w.addr["captured"]))(t)
		defer conn.Close()
		go func() {
			if n%2 == 0 {
				<-speak // the others are in the middle of it
			}
			tc := tls.Client(conn, &tls.Config{RootCAs: w.roots(), ServerName: echoHost, NextProtos: []string{protoH1}})
			_, _ = fmt.Fprintf(tc, "GET /x HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", echoHost)
			text, _ := io.ReadAll(tc)
			answers <- string(text)
		}()
	}
	silent := must(net.Dial("tcp", w.addr["captured"]))(t)
	defer silent.Close()
	eventually(t, "all are taken", func() bool { return w.srv.incoming.count() == clients+1 })
	done := make(chan Drained, 1)
	go func() { done <- w.srv.Drain(t.Context()) }()
	eventually(t, "nobody comes in", func() bool {
		conn, err := net.Dial("tcp", w.addr["captured"])
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	close(speak)
	for range clients {
		if text := <-answers; !strings.HasPrefix(text, "HTTP/1.1 200") {
			t.Errorf("answer %.80q", text)
		}
	}
	if n, err := silent.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("the silent one is answered")
	}
	if d := <-done; d.Cut != 0 || d.Took < patience || d.Took > 10*patience {
		t.Errorf("%+v", d)
	}
	if n := w.srv.incoming.count(); n != 0 {
		t.Errorf("%d are left", n)
	}
}
