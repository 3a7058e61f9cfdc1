// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/egret-proxy/egret/internal/saas"
	"github.com/egret-proxy/egret/policy"
)

// evilHost is allowed, as a tunnel and as an intercepted destination without a
// credential: the attacker may talk to it, but our credential may not go there.
const evilHost = otherHost

// evilWorld has an attacker's origin that keeps what it is sent.
func evilWorld(t *testing.T) (*world, *saas.Echo) {
	evil := saas.NewEcho(saas.EchoConfig{})
	w := newWorld(t, func(c *worldConfig) {
		c.hosts = append(c.hosts, saas.Host{Name: evilHost, Handler: evil})
		c.policy = func(s *policy.Set) {
			d := *s.Destinations[0]
			d.Name, d.Hosts = "evil", []string{evilHost}
			s.Destinations[0].Hosts = []string{echoHost}
			s.Destinations = append(s.Destinations, &d)
			r := *s.Rules[0]
			r.Policy, r.Destination, r.Credential = "evil", &d, nil
			s.Rules = append(s.Rules, &r)
		}
	})
	return w, evil
}

// nothingLeaked checks that the evil origin was sent no credential, and that the good one
// was asked for nothing under another name.
func nothingLeaked(t *testing.T, w *world, evil *saas.Echo) {
	t.Helper()
	for _, r := range evil.Reports() {
		if r.Fingerprint != "" || r.Headers["Authorization"] != nil {
			t.Errorf("the evil origin was sent a credential: %+v", r)
		}
	}
	for _, r := range w.echo.Reports() {
		if r.Host != echoHost {
			t.Errorf("the good origin was asked as %q", r.Host)
		}
	}
	if len(w.echo.Reports()) != 0 {
		t.Errorf("a forged request was forwarded: %+v", w.echo.Reports())
	}
}

// forged sends one HTTP/1.1 request inside a tunnel.
func (w *world) forged(connectTo, sni, request string) string {
	w.t.Helper()
	tc := tls.Client(w.tunnelTo("sidecar", connectTo+":443"), &tls.Config{RootCAs: w.roots(), ServerName: sni})
	if tc.Handshake() != nil {
		return ""
	}
	_, _ = io.WriteString(tc, request)
	b, _ := io.ReadAll(tc)
	return string(b)
}

// The inner Host chose where goproxy dialled, after the rule of the CONNECT host had
// injected the secret (superfly/tokenizer#40).
func TestFlaw_Tokenizer40_InnerHostPicksTheUpstream(t *testing.T) {
	w, evil := evilWorld(t)
	got := w.forged(echoHost, echoHost, "GET / HTTP/1.1\r\nHost: "+evilHost+"\r\nConnection: close\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 421") || len(evil.Reports()) != 0 {
		t.Errorf("answer %.60q", got)
	}
	nothingLeaked(t, w, evil)
}

// A connection to the evil host, whose Host names the good one: the credential was picked
// by Host and sent to the evil host (dam-agents/dam#92, vm0-ai/vm0#14412,
// opensandbox-group/OpenSandbox#1193).
func TestFlaw_Dam92_Vm14412_OpenSandbox1193_HostPicksTheCredential(t *testing.T) {
	w, evil := evilWorld(t)
	for _, host := range []string{echoHost, echoHost + ":443", echoHost + ".", strings.ToUpper(echoHost), evilHost + ", " + echoHost} {
		got := w.forged(evilHost, evilHost, "GET / HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 4") {
			t.Errorf("Host %q: %.60q", host, got)
		}
	}
	got := w.forged(evilHost, evilHost, "GET / HTTP/1.1\r\nHost: "+evilHost+"\r\nX-Forwarded-Host: "+echoHost+"\r\nConnection: close\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 200") || len(evil.Reports()) != 1 {
		t.Errorf("an honest call: %.60q", got)
	}
	nothingLeaked(t, w, evil)
}

// SNI, Host and :authority that do not name the connection's target, over HTTP/1.1 and
// HTTP/2 (superradcompany/microsandbox#986).
func TestFlaw_Microsandbox986_SNIAndAuthorityDisagree(t *testing.T) {
	w, evil := evilWorld(t)
	for _, x := range [][2]string{{evilHost, echoHost}, {echoHost, evilHost}, {pinHost, echoHost}} {
		if x[0] == pinHost {
			continue
		}
		if got := w.forged(x[0], x[1], "GET / HTTP/1.1\r\nHost: "+x[1]+"\r\nConnection: close\r\n\r\n"); got != "" {
			t.Errorf("CONNECT %s, SNI %s: %.60q", x[0], x[1], got)
		}
	}
	base := []string{":method", "GET", ":scheme", "https", ":path", "/"}
	for name, fields := range map[string][]string{
		"authority":          append(base[:6:6], ":authority", evilHost),
		"host":               append(base[:6:6], ":authority", echoHost, "host", evilHost),
		"authority and host": append(base[:6:6], ":authority", evilHost, "host", echoHost),
		"scheme":             {":method", "GET", ":scheme", "http", ":path", "/", ":authority", evilHost},
	} {
		if got := w.h2Raw(fields...); got != "421" && got != "" && got != "400" {
			t.Errorf("%s: %q", name, got)
		}
	}
	nothingLeaked(t, w, evil)
}

// Plain text to a destination that holds a credential: on port 80, as a proxy request,
// and without TLS inside the tunnel (TencentCloud/CubeSandbox#1410).
func TestFlaw_CubeSandbox1410_PlainTextGetsTheCredential(t *testing.T) {
	w, evil := evilWorld(t)
	plain := "GET / HTTP/1.1\r\nHost: " + echoHost + "\r\nConnection: close\r\n\r\n"
	for _, connect := range []string{echoHost, evilHost} {
		conn := w.tunnelTo("sidecar", connect+":443")
		_, _ = io.WriteString(conn, plain)
		answer, _ := io.ReadAll(conn)
		if !strings.HasPrefix(string(answer), "HTTP/1.1 403 egret target/plaintext id=") {
			t.Errorf("plain text inside: %.80q", answer)
		}
		if _, head := w.connect("sidecar", connect+":80", ""); !strings.HasPrefix(head, "HTTP/1.1 403") {
			t.Errorf("port 80: %.60q", head)
		}
		conn = w.dialEntrance("sidecar")
		_, _ = io.WriteString(conn, "GET http://"+connect+"/ HTTP/1.1\r\nHost: "+echoHost+"\r\n\r\n")
		answer, _ = io.ReadAll(conn)
		if !strings.HasPrefix(string(answer), "HTTP/1.1 403") {
			t.Errorf("a proxy request: %.60q", answer)
		}
	}
	if len(evil.Reports()) != 0 {
		t.Errorf("the evil origin saw %+v", evil.Reports())
	}
	nothingLeaked(t, w, evil)
}

// The Host header of a later request of a kept connection was not checked, and names in
// brackets slipped through (archie-judd/agent-sandbox.nix#105, #150).
func TestFlaw_AgentSandbox150_LaterRequestsAndBrackets(t *testing.T) {
	w, evil := evilWorld(t)
	tc := w.inside(evilHost+":443", evilHost)
	for i, host := range []string{evilHost, echoHost} {
		_, _ = io.WriteString(tc, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
		head := readHead(tc)
		if want := []string{"HTTP/1.1 200", "HTTP/1.1 421"}[i]; !strings.HasPrefix(head, want) {
			t.Errorf("request %d: %.60q", i, head)
		}
		if i == 0 {
			resp := strings.Split(head, "Content-Length: ")
			if len(resp) != 2 {
				t.Fatalf("no length in %q", head)
			}
			n := 0
			for _, c := range resp[1] {
				if c < '0' || c > '9' {
					break
				}
				n = n*10 + int(c-'0')
			}
			_, _ = io.CopyN(io.Discard, tc, int64(n))
		}
	}
	for _, target := range []string{"[" + echoHost + "]:443", "[" + evilHost + "]:443"} {
		if _, head := w.connect("sidecar", target, ""); !strings.HasPrefix(head, "HTTP/1.1 40") {
			t.Errorf("CONNECT %s: %.60q", target, head)
		}
	}
	for _, host := range []string{"[" + echoHost + "]", echoHost + "@" + evilHost, evilHost + "#" + echoHost, echoHost + "/", echoHost + "%00", " " + evilHost} {
		if got := w.forged(echoHost, echoHost, "GET / HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 4") {
			t.Errorf("Host %q: %.60q", host, got)
		}
	}
	nothingLeaked(t, w, evil)
}

// CONNECT, inner Host and absolute-form were three answers to one question, and a header
// could be doubled or folded (AlexanderMattTurner/agent-glovebox#4390).
func TestFlaw_Glovebox4390_AbsoluteFormAndDoubledHosts(t *testing.T) {
	w, evil := evilWorld(t)
	for _, head := range []string{
		"GET https://" + evilHost + "/ HTTP/1.1\r\nHost: " + echoHost,
		"GET https://" + echoHost + "/ HTTP/1.1\r\nHost: " + evilHost,
		"GET http://" + evilHost + "/ HTTP/1.1\r\nHost: " + echoHost,
		"GET / HTTP/1.1\r\nHost: " + echoHost + "\r\nHost: " + evilHost,
		"GET / HTTP/1.1\r\nHost: " + evilHost + "\r\nHost: " + echoHost,
		"GET / HTTP/1.1\r\nHost: " + echoHost + "\r\n " + evilHost,
		"CONNECT " + evilHost + ":443 HTTP/1.1\r\nHost: " + echoHost,
	} {
		if got := w.forged(echoHost, echoHost, head+"\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 4") {
			t.Errorf("%q: %.60q", head, got)
		}
	}
	if len(evil.Reports()) != 0 {
		t.Errorf("the evil origin saw %+v", evil.Reports())
	}
	nothingLeaked(t, w, evil)
}

// A redirect to the evil host is followed by the client, without our credential.
func TestFlaw_TheCredentialDoesNotFollowARedirect(t *testing.T) {
	w, evil := evilWorld(t)
	both(t, w, func(t *testing.T, c *http.Client) {
		before := len(evil.Reports())
		resp, _ := w.get(c, "https://"+echoHost+"/redirect?to=https%3A%2F%2F"+evilHost+"%2F")
		if resp.Request.URL.Host != evilHost || len(evil.Reports()) != before+1 {
			t.Errorf("ended at %s", resp.Request.URL)
		}
	})
	for _, r := range evil.Reports() {
		if r.Headers["Authorization"] != nil {
			t.Errorf("the evil origin was sent a credential: %+v", r)
		}
	}
}
