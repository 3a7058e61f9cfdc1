// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/policy"
)

// echConfigs is an ECHConfigList (RFC 9849, 4) of a public name, with a key that nobody
// here has: DHKEM(X25519), HKDF-SHA256, AES-128-GCM.
func echConfigs(t testing.TB, public string) []byte {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	vector := func(size int, b ...byte) []byte {
		if size == 1 {
			return append([]byte{byte(len(b))}, b...)
		}
		return append([]byte{byte(len(b) >> 8), byte(len(b))}, b...)
	}
	contents := append([]byte{7, 0, 0x20}, vector(2, key.PublicKey().Bytes()...)...)
	contents = append(contents, vector(2, 0, 1, 0, 1)...)
	contents = append(append(contents, 32), vector(1, []byte(public)...)...)
	contents = append(contents, 0, 0)
	return vector(2, append([]byte{0xfe, 0x0d}, vector(2, contents...)...)...)
}

// echDial makes Go's own client shake hands with true ECH: inner is what it means, outer
// what can be read.
func (w *world) echDial(inner, outer string) error {
	conn := must(net.Dial("tcp", w.addr["captured"]))(w.t)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	return tls.Client(conn, &tls.Config{
		RootCAs: w.roots(), ServerName: inner, MinVersion: tls.VersionTLS13, EncryptedClientHelloConfigList: echConfigs(w.t, outer),
	}).Handshake()
}

// TestMUST_T11_AnECHClientIsAsGoodAsItsOuterName: with a real ECH client, the outer name is
// the target. Where no destination lists it, the connection is refused, whatever is inside;
// where one does, the client is shown that host's certificate, sees that its ECH was not
// taken, and sends nothing. Either way nothing is injected, and the record tells.
func TestMUST_T11_AnECHClientIsAsGoodAsItsOuterName(t *testing.T) {
	w := newWorld(t)
	w.capturing(somewhere)
	for name, x := range map[string]struct{ inner, outer, reason string }{
		"listed inside, unlisted outside": {echoHost, "cover.example", "unlisted_host"},
		"unlisted inside, listed outside": {"evil.example", echoHost, ""},
		"both listed":                     {otherHost, echoHost, ""},
	} {
		before := len(w.allRecords())
		err := w.echDial(x.inner, x.outer)
		var rejected *tls.ECHRejectionError
		if err == nil || errors.As(err, &rejected) != (x.reason == "") {
			t.Errorf("%s: %v", name, err)
		}
		r := w.wait(before+1, any1)[before]
		if r.Host != x.outer || !r.ECH || r.Credential != "" || x.reason != "" && r.Reason != x.reason {
			t.Errorf("%s: record %+v", name, r)
		}
	}
	if n := len(w.echo.Reports()); n != 0 {
		t.Errorf("%d requests were forwarded", n)
	}
}

// TestMUST_T11_EncryptedClientHello: GREASE cannot be told from it, so that the outer name
// counts there too. One that is not listed is refused, or by policy passed unread; never
// injected. Where it is listed it is the target like any other.
func TestMUST_T11_EncryptedClientHello(t *testing.T) {
	w := newWorld(t)
	w.capturing(somewhere)
	grease := extension(extensionECH, make([]byte, 180)...)
	if got, _ := w.begin(string(build(serverName("cover.example"), grease))); got != alertOf(alertUnrecognizedName) {
		t.Errorf("answer %q", got)
	}
	if r := w.wait(1, any1)[0]; r.Reason != "unlisted_host" || !strings.Contains(r.Detail, "encrypted_client_hello") || r.Host != "cover.example" || !r.ECH {
		t.Errorf("record %+v", r)
	}
	resp, text := w.get(w.captured(), "https://"+echoHost+"/") // a client without
	if resp.StatusCode != 200 {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
	if r := w.recordOf(resp); r.ECH {
		t.Errorf("record %+v", r)
	}
	w.reload(func(s *policy.Set) { s.UnlistedTunnel = true })
	a := policy.New(policy.Set{}) // nothing loaded passes nothing
	if adm := a.ConnectAddress(spiffeid.RequireFromString(jobID), "sidecar", policy.Target{Host: "192.0.2.7", Port: 443}, time.Now()); adm.Verdict != policy.Deny {
		t.Errorf("an empty policy: %v", adm.Verdict)
	}
	before := len(w.wait(2, any1))
	_, _ = w.begin(string(build(serverName("cover.example"), grease)))
	if r := w.wait(before+1, any1)[before]; r.Verdict != policy.Tunnel.String() || r.Credential != "" || !r.ECH { // it may pass, but cover.example resolves nowhere
		t.Errorf("record %+v", r)
	}
	if n := len(w.echo.Reports()); n != 1 {
		t.Errorf("%d requests", n)
	}
}
