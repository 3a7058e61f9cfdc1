// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package redirect

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// tproxyWays are TPROXY by every program.
func tproxyWays() (out []way) {
	for _, x := range ways() {
		if x.mode == "tproxy" {
			out = append(out, x)
		}
	}
	return out
}

// speaks shakes hands over a connection as a client of the twins, and asks for a page.
func (w *world) speaks(conn net.Conn) error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(w.ca.PEM())
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	tc := tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: "evil.egret.test"})
	if _, err := io.WriteString(tc, "GET /x HTTP/1.1\r\nHost: evil.egret.test\r\n\r\n"); err != nil {
		return err
	}
	_, err := tc.Read(make([]byte, 100))
	return err
}

// TestOpenBefore: a connection that was open when the rules came goes on, to its own end,
// where the kernel tracked connections before: it knows then that it is not new. Elsewhere it
// is refused. One that begins afterwards is captured either way.
func TestOpenBefore(t *testing.T) {
	for _, way := range ways()[:2] {
		t.Run(way.name(), func(t *testing.T) { openBefore(t, way, false) })
		t.Run(way.name()+", tracked", func(t *testing.T) { openBefore(t, way, true) })
	}
}

func openBefore(t *testing.T, way way, tracked bool) {
	w := newWorld(t)
	if tracked {
		w.feed(t, "table inet others {\n\tchain c { type filter hook output priority 0; ct state established accept; }\n}\n", "nft", "-f", "-")
	}
	w.start(t, way.settings(settings), way.privileges()...)
	for _, v6 := range []bool{false, true} {
		to := join(addressOf("evil.egret.test", v6), "443")
		before, err := w.dial(t.Context(), to)
		if err != nil {
			t.Fatal(err)
		}
		defer before.Close()
		w.redirect(t, way.backend, way.flags()...)
		if err := w.speaks(before); (err == nil) != tracked {
			t.Errorf("%s: it was open before: %v", to, err)
		}
		after, err := w.dial(t.Context(), to)
		if err != nil {
			t.Fatal(err)
		}
		defer after.Close()
		if err := w.speaks(after); err == nil {
			t.Errorf("%s: one that begins afterwards met the twin itself", to)
		}
		w.inPodOK(t, os.Getenv(egretVar), "redirect", "remove")
	}
}

// TestOnlyByLoopback: TPROXY without its routing, without egret, and beside a server of the
// pod's own on the same port: nothing leaves, and nobody else is given the connection.
func TestOnlyByLoopback(t *testing.T) {
	for _, way := range tproxyWays() {
		t.Run(way.name(), func(t *testing.T) {
			w := newWorld(t)
			w.redirect(t, way.backend, way.flags()...)
			own, err := w.podNS.Listen(t.Context(), "tcp", "[::]:443")
			if err != nil {
				t.Fatal(err)
			}
			defer own.Close()
			try := func(what string) {
				t.Helper()
				for _, family := range []string{"-4", "-6"} {
					if got := w.call(t, "curl", "-sS", "--connect-timeout", "1", family, rest); got.code == 0 || !strings.Contains(strings.ToLower(got.out), "connect") {
						t.Errorf("%s, %s: exit %d %s", what, family, got.code, got.out)
					}
				}
			}
			try("without egret")
			for _, family := range []string{"-4", "-6"} {
				w.inPodOK(t, "ip", family, "rule", "del", "pref", "65")
			}
			try("without the routing rule")
			if syns, _ := w.packets.begun(); syns != 0 {
				t.Errorf("%d connections have left", syns)
			}
		})
	}
}

// TestReversePathFilter: what is handed over by loopback is not asked where it came from,
// and addresses of loopback need not be routable.
func TestReversePathFilter(t *testing.T) {
	for _, way := range ways()[:2] {
		for _, filter := range []string{"1", "2"} {
			t.Run(way.name()+", "+filter, func(t *testing.T) { filtered(t, way, filter) })
		}
	}
}

func filtered(t *testing.T, way way, filter string) {
	w := newWorld(t)
	for _, dev := range []string{"all", "default", "lo", "eth0"} {
		w.inPodOK(t, "sysctl", "-qw", "net.ipv4.conf."+dev+".rp_filter="+filter, "net.ipv4.conf."+dev+".route_localnet=0")
	}
	w.start(t, way.settings(settings), way.privileges()...)
	w.redirect(t, way.backend, way.flags()...)
	for _, family := range []string{"-4", "-6"} {
		if got := w.call(t, "curl", "-sSi", family, rest); !strings.Contains(got.out, `"WEB"`) {
			t.Errorf("%s: exit %d\n%s", family, got.code, got.out)
		}
	}
}
