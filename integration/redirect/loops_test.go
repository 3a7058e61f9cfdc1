// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package redirect

import (
	"strings"
	"testing"
)

// TestLoops: rules that do not leave egret alone, and a connection to egret's own port.
func TestLoops(t *testing.T) {
	for _, way := range mainWays() {
		t.Run(way.name(), func(t *testing.T) {
			w := newWorld(t)
			e := w.start(t, way.settings(settings), way.privileges()...)
			w.redirect(t, way.backend, append(way.flags(), "--uid", "4242")...)
			if got := w.call(t, "curl", "-sSi", "--max-time", "20", rest); !strings.Contains(got.out, "HTTP/2 502") && !strings.Contains(got.out, "HTTP/1.1 502") && !strings.Contains(got.out, " 504") {
				t.Errorf("curl: exit %d\n%s", got.code, got.out)
			}
			e.await(t, "the loop", func(r record) bool { return r.Layer == "target" && r.Reason == "loop" })
			for _, own := range []string{"127.0.0.1:8650", "[::1]:8650"} {
				if conn, err := w.dial(t.Context(), own); err == nil {
					if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
						t.Errorf("%s is served", own)
					}
					_ = conn.Close()
				}
			}
			e.await(t, "a connection to itself", func(r record) bool { return r.Reason == "loop" && r.Original == "[::1]:8650" })
			if syns, _ := w.packets.begun(); syns != 0 || len(w.arrivals.take()) != 0 {
				t.Errorf("%d connections have left", syns)
			}
			metrics := w.inPodOK(t, "curl", "-sS", "http://127.0.0.1:8633/metrics")
			if !strings.Contains(metrics, `egret_refused_connections_total{layer="target",listener="v4",reason="loop"}`) {
				t.Error("loops are not counted")
			}
		})
	}
}

// TestLeftAlone: egret's own connections are left alone by their user, and by their mark
// where no user is; each call then leaves once. (By namespace: integration/steer.)
func TestLeftAlone(t *testing.T) {
	for i, way := range ways() {
		for name, x := range map[string]struct {
			settings string
			flags    []string
		}{
			"user": {settings, nil},
			"mark": {strings.Replace(settings, "audit:", "upstream: {mark: 34}\naudit:", 1), []string{"--uid", "none", "--mark", "34"}},
		} {
			if name == "mark" && i > 1 {
				continue
			}
			t.Run(way.name()+", "+name, func(t *testing.T) {
				w := newWorld(t)
				w.start(t, way.settings(x.settings), netAdmin()...)
				w.redirect(t, way.backend, append(way.flags(), x.flags...)...)
				for _, family := range []string{"-4", "-6"} {
					if got := w.call(t, "curl", "-sSi", family, rest); !strings.Contains(got.out, `"WEB"`) {
						t.Errorf("%s: exit %d\n%s", family, got.code, got.out)
					}
				}
				if list := w.arrivals.take(); len(list) != 2 {
					t.Errorf("%+v", list)
				}
				waitFor(t, "they are seen to leave", func() bool { syns, _ := w.packets.begun(); return syns > 0 })
				if syns, _ := w.packets.begun(); syns > 4 { // egret tries both families of a name
					t.Errorf("%d connections have left for two calls", syns)
				}
			})
		}
	}
}
