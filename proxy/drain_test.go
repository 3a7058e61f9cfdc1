// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/egret-proxy/egret/audit"
)

func TestDrainLetsRequestsFinishAndCutsStreamsAtTheEnd(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "wss://"+echoHost+"/ws", &websocket.DialOptions{HTTPClient: w.client("sidecar", http1)})
	if err != nil {
		t.Fatal(err)
	}
	_ = w.tunnelTo("sidecar", pinHost+":443")
	slow := make(chan int, 2)
	for _, c := range []*http.Client{w.client("sidecar"), w.client("sidecar", http1)} {
		go func() {
			status := 0
			if resp, err := c.Get("https://" + echoHost + "/slow/400ms"); err == nil {
				status = resp.StatusCode
				_ = resp.Body.Close()
			}
			slow <- status
		}()
	}
	eventually(t, "all in flight", func() bool {
		n := 0
		for _, c := range w.srv.table.all() {
			n += len(c.running())
		}
		return n == 4
	})
	grace, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	done := make(chan Drained, 1)
	go func() { done <- w.srv.Drain(grace) }()
	eventually(t, "nobody comes in", func() bool {
		conn, err := net.Dial("tcp", w.addr["sidecar"])
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	for range 2 {
		if status := <-slow; status != 200 {
			t.Errorf("a request in flight got %d", status)
		}
	}
	d := <-done
	if d.Cut != 2 || d.Took < 900*time.Millisecond || d.Took > 4*time.Second {
		t.Errorf("%+v, want 2 cut after the grace of a second", d)
	}
	if _, _, err := ws.Read(ctx); err == nil {
		t.Error("the WebSocket goes on")
	}
	w.wait(2, func(r record) bool { return r.Kind == audit.KindStreamEnd && r.Reason == "drain" })
	if n := w.srv.busy.Load(); n != 0 {
		t.Errorf("%d handlers are left", n)
	}
}

func TestDrainOfAnIdleServerIsQuickAndFinal(t *testing.T) {
	w := newWorld(t)
	_, _ = w.get(w.client("sidecar"), "https://"+echoHost+"/")
	if d := w.srv.Drain(t.Context()); d.Cut != 0 || d.Took > 2*time.Second {
		t.Errorf("%+v", d)
	}
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	if err := w.srv.Serve(Entrance{Name: "late", Listener: l, Identity: w.srv.outers[0].Handler.(*front).e.Identity}); err != nil {
		t.Errorf("a late entrance: %v", err)
	}
	if _, err := l.Accept(); err == nil {
		t.Error("a late entrance's listener is open")
	}
	w.srv.Drain(t.Context())
	w.srv.Close()
}
