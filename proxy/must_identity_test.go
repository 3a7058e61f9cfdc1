// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/policy"
)

// svid mints an X.509-SVID of the world's trust domain.
func (w *world) svid(id string, ttl time.Duration) tls.Certificate {
	w.t.Helper()
	s := must(w.issuer.MintX509(spiffeid.RequireFromString(id), ttl))(w.t)
	return tlsCertificate(s)
}

func tlsCertificate(s *x509svid.SVID) tls.Certificate {
	cert := tls.Certificate{PrivateKey: s.PrivateKey}
	for _, c := range s.Certificates {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert
}

// meshClient goes through the mTLS entrance with a client certificate.
func (w *world) meshClient(certs ...tls.Certificate) *http.Client {
	_, port, _ := strings.Cut(w.addr["mesh"], ":")
	return w.client("mesh", func(tr *http.Transport) {
		tr.Proxy = http.ProxyURL(&url.URL{Scheme: "https", Host: "localhost:" + port})
		tr.TLSClientConfig.Certificates = certs
		tr.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	})
}

// jwtClient goes through the entrance that asks for a JWT-SVID.
func (w *world) jwtClient(id, audience string, ttl time.Duration) *http.Client {
	w.t.Helper()
	token := must(w.issuer.MintJWT(spiffeid.RequireFromString(id), audience, ttl))(w.t).Reveal()
	return w.client("jwt", func(tr *http.Transport) {
		tr.ProxyConnectHeader = http.Header{"Proxy-Authorization": {"Bearer " + token}}
	})
}

func TestMUST_I3_NobodyComesInOnAResumedSession(t *testing.T) {
	w := newWorld(t)
	cache := tls.NewLRUClientSessionCache(8)
	for i := range 3 {
		cfg := &tls.Config{RootCAs: w.roots(), ServerName: "localhost", ClientSessionCache: cache, Certificates: []tls.Certificate{w.svid(jobID, time.Hour)}}
		tc := must(tls.Dial("tcp", w.addr["mesh"], cfg))(t)
		_, _ = io.WriteString(tc, "CONNECT "+echoHost+":443 HTTP/1.1\r\nHost: x\r\n\r\n")
		if head := readHead(tc); !strings.HasPrefix(head, "HTTP/1.1 200") {
			t.Errorf("connection %d: %s", i, head)
		}
		if tc.ConnectionState().DidResume {
			t.Errorf("connection %d was resumed", i)
		}
		_ = tc.Close()
	}
}

// streams opens one of each kind of long stream and returns a function that waits until
// each of them has ended.
func (w *world) streams() (ended func()) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 15*time.Second)
	w.t.Cleanup(cancel)
	ws, _, err := websocket.Dial(ctx, "wss://"+echoHost+"/ws", &websocket.DialOptions{HTTPClient: w.client("sidecar", http1)})
	if err != nil {
		w.t.Fatal(err)
	}
	_ = ws.Write(ctx, websocket.MessageText, []byte("x"))
	_, _, _ = ws.Read(ctx)
	open := []io.Reader{}
	for _, c := range []*http.Client{w.client("sidecar"), w.client("sidecar", http1)} {
		resp := do(w.t, c, request(w.t, "GET", "https://"+echoHost+"/sse?n=5000", nil))
		_, _ = resp.Body.Read(make([]byte, 1))
		open = append(open, resp.Body)
	}
	tunnel := w.tunnelTo("sidecar", pinHost+":443")
	_ = tunnel.SetDeadline(time.Now().Add(15 * time.Second))
	open = append(open, tunnel)
	return func() {
		w.t.Helper()
		start := time.Now()
		if _, _, err := ws.Read(ctx); err == nil || ctx.Err() != nil {
			w.t.Errorf("the WebSocket goes on: %v", err)
		}
		for i, r := range open {
			_, _ = io.Copy(io.Discard, r)
			if time.Since(start) > 5*time.Second {
				w.t.Errorf("stream %d went on", i)
			}
		}
	}
}

func TestMUST_I4_ANewPolicyCutsWhatItNoLongerAllows(t *testing.T) {
	w := newWorld(t)
	ended := w.streams()
	if n := w.srv.Recheck(); n != 0 {
		t.Fatalf("%d were cut under the same policy", n)
	}
	w.reload(func(s *policy.Set) { s.Rules, s.Tunnels = nil, nil })
	if n := w.srv.Recheck(); n != 4 {
		t.Errorf("%d were cut, want 4", n)
	}
	ended()
	w.wait(4, func(r record) bool { return r.Reason == "revoked" && r.Layer == "policy" })
	resp, text := w.get(w.client("sidecar"), "https://"+echoHost+"/")
	if resp.StatusCode != 403 || problemOf(t, text).Reason != "no_policy" {
		t.Errorf("a new request: %d %s", resp.StatusCode, text)
	}
}

func TestMUST_I4_TheSameConnectionIsAskedForEveryRequest(t *testing.T) {
	w := newWorld(t)
	both(t, w, func(t *testing.T, c *http.Client) {
		if resp, _ := w.get(c, "https://"+echoHost+"/"); resp.StatusCode != 200 {
			t.Fatal(resp.Status)
		}
		w.reload(func(s *policy.Set) { s.Rules = nil })
		if resp, _ := w.get(c, "https://"+echoHost+"/"); resp.StatusCode != 403 {
			t.Errorf("after the change %s", resp.Status)
		}
		w.reload(func(*policy.Set) {})
	})
}

func TestMUST_I4_ExpiredEvidenceCutsTheConnection(t *testing.T) {
	w := newWorld(t)
	c := w.meshClient(w.svid(jobID, 2*time.Second))
	resp := do(t, c, request(t, "GET", "https://"+echoHost+"/sse?n=5000", nil))
	if resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	start := time.Now()
	_, _ = io.Copy(io.Discard, resp.Body)
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("the stream went on for %s", d)
	}
	w.wait(1, func(r record) bool { return r.Reason == "svid_expired" && r.Evidence == identity.EvidenceX509SVID })
}

// The caller is still waiting for an answer: it is told, and not just cut off.
func TestMUST_I4_ARequestThatWaitsIsToldThatItsGrantIsGone(t *testing.T) {
	w := newWorld(t)
	n := 0
	both(t, w, func(t *testing.T, c *http.Client) {
		w.reload(func(*policy.Set) {})
		before := len(w.echo.Reports())
		answer := make(chan *http.Response, 1)
		go func() { resp, _ := c.Get("https://" + echoHost + "/slow/20s"); answer <- resp }()
		eventually(t, "in flight", func() bool {
			for _, cc := range w.srv.table.all() {
				if len(cc.running()) == 1 {
					return true
				}
			}
			return false
		})
		w.reload(func(s *policy.Set) { s.Rules = nil })
		w.srv.Recheck()
		resp := <-answer
		if resp == nil || resp.StatusCode != 403 || problemOf(t, body(t, resp)).Reason != "revoked" {
			t.Errorf("answer %+v", resp)
		}
		if len(w.echo.Reports()) != before {
			t.Error("the SaaS answered")
		}
		n++
		w.wait(n, func(r record) bool { return r.Reason == "revoked" && r.Status == 403 })
	})
}

func TestMUST_I8_TheUnknownGetNoIdentityAndNoCredential(t *testing.T) {
	w := newWorld(t)
	for name, x := range map[string]struct {
		client *http.Client
		want   string
	}{
		"no certificate":      {w.meshClient(), "egret identity/no_evidence"},
		"an unknown workload": {w.meshClient(w.svid(strangeID, time.Hour)), "egret identity/unknown_workload"},
		"no token":            {w.client("jwt"), "Proxy Authentication Required"},
		"an unknown token":    {w.jwtClient(strangeID, "egret", time.Minute), "Proxy Authentication Required"},
		"another's token":     {w.jwtClient(jobID, "somebody-else", time.Minute), "Proxy Authentication Required"},
	} {
		t.Run(name, func(t *testing.T) {
			resp, err := x.client.Get("https://" + echoHost + "/")
			if err == nil {
				t.Fatalf("answer %s", resp.Status)
			}
			if !strings.Contains(err.Error(), x.want) {
				t.Errorf("the client reads %v, want %q", err, x.want)
			}
		})
	}
	if n := w.minter.mints.Load(); n != 0 || len(w.echo.Reports()) != 0 {
		t.Errorf("%d tokens, %d requests", n, len(w.echo.Reports()))
	}
	w.wait(5, func(r record) bool { return r.Layer == "identity" && r.Verdict == "deny" })
}

func TestMUST_I10_ProxyAuthorizationGoesNoFurther(t *testing.T) {
	w := newWorld(t)
	token := must(w.issuer.MintJWT(spiffeid.RequireFromString(jobID), "egret", time.Minute))(t).Reveal()
	c := w.client("jwt", func(tr *http.Transport) {
		tr.ProxyConnectHeader = http.Header{"Proxy-Authorization": {"Bearer " + token}}
	})
	r := request(t, "GET", "https://"+echoHost+"/", nil)
	r.Header["Proxy-Authorization"] = []string{"Bearer " + token} // inside too
	r.Header["proxy_authorization"] = []string{"Bearer " + token}
	resp := do(t, c, r)
	rep := report(t, body(t, resp))
	for name := range rep.Headers {
		if strings.HasPrefix(plainName(name), "proxy") {
			t.Errorf("the SaaS saw %s", name)
		}
	}
	if rec := w.recordOf(resp); rec.Evidence != identity.EvidenceJWTSVID {
		t.Errorf("record %+v", rec)
	}
	if strings.Contains(w.records.text(), token) || strings.Contains(w.logs.String(), token) {
		t.Error("the JWT-SVID is in a record or in the log")
	}
}

func TestMUST_I12_TheRecordNamesTheEvidenceAndWeakEvidenceIsRefused(t *testing.T) {
	w := newWorld(t, withPolicy(func(s *policy.Set) {
		s.Bindings[0].Workload.Evidence = []string{identity.EvidenceSidecar, identity.EvidenceX509SVID} // the default has no bearer evidence
	}))
	for want, c := range map[string]*http.Client{
		identity.EvidenceSidecar: w.client("sidecar"), identity.EvidenceX509SVID: w.meshClient(w.svid(jobID, time.Hour)),
	} {
		resp, _ := w.get(c, "https://"+echoHost+"/")
		if r := w.recordOf(resp); r.Evidence != want || r.Status != 200 {
			t.Errorf("record %+v, want evidence %s", r, want)
		}
	}
	resp, text := w.get(w.jwtClient(jobID, "egret", time.Minute), "https://"+echoHost+"/")
	if p := problemOf(t, text); resp.StatusCode != 403 || p.Reason != "weak_evidence" {
		t.Errorf("%d %+v", resp.StatusCode, p)
	}
	if r := w.recordOf(resp); r.Evidence != identity.EvidenceJWTSVID || r.Verdict != "deny" {
		t.Errorf("record %+v", r)
	}
}
