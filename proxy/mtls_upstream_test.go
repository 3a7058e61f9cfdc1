// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/mtls"
	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/identity/embedded"
	"github.com/egret-proxy/egret/policy"
)

// ledger is a destination that demands a client certificate of the trust domain, and
// answers whose it was and on which connection.
type ledger struct {
	addr  string
	mu    sync.Mutex
	roots *x509.CertPool
	conns map[string]string // remote address to the serial of its certificate
}

// newMTLSWorld is a world whose echo destination is a ledger, for which each workload has
// its own X.509-SVID as credential. change narrows what TLS the ledger speaks.
func newMTLSWorld(t *testing.T, change func(*tls.Config), opts ...option) (*world, *ledger) {
	t.Helper()
	l := &ledger{conns: map[string]string{}}
	ln := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	l.addr = ln.Addr().String()
	w := newWorld(t, append(opts, func(c *worldConfig) {
		c.policy = func(s *policy.Set) { svidsFor(s, l.addr) }
	})...)
	w.cache.Install([]credential.Spec{{Name: "ledger-svid", Generation: "1", Provider: mtls.New(), Bare: true}})
	l.trust(t, w)
	cert := must(w.ca.Certificate(echoHost))(t)
	conf := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*cert}, NextProtos: []string{"h2", "http/1.1"}}
	change(conf)
	conf.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		own := conf.Clone()
		own.ClientAuth, own.ClientCAs = tls.RequireAndVerifyClientCert, l.pool()
		return own, nil
	}
	srv := &http.Server{Handler: l, TLSConfig: conf, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: 10 * time.Second}
	var done sync.WaitGroup
	done.Go(func() { _ = srv.ServeTLS(ln, "", "") })
	t.Cleanup(func() { _ = srv.Close(); done.Wait() })
	return w, l
}

// svidsFor makes the echo destination the ledger, and lets both workloads use it.
func svidsFor(s *policy.Set, addr string) {
	cred := &policy.Credential{Name: "ledger-svid", Generation: "1"}
	for _, r := range s.Rules {
		if r.Destination.Name != "echo" {
			continue
		}
		r.Destination.Dial, r.Credential = addr, cred
		other := *r
		other.Policy, other.Workload = "build-agent-echo", s.Bindings[1].Workload
		s.Rules = append(s.Rules, &other)
		return
	}
}

func (l *ledger) trust(t *testing.T, w *world) {
	t.Helper()
	b := must(w.issuer.Bundles().GetX509BundleForTrustDomain(spiffeid.RequireTrustDomainFromString("acme.example")))(t)
	pool := x509.NewCertPool()
	for _, c := range b.X509Authorities() {
		pool.AddCert(c)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.roots = pool
}

func (l *ledger) pool() *x509.CertPool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.roots
}

func (l *ledger) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	leaf := r.TLS.PeerCertificates[0]
	l.mu.Lock()
	l.conns[r.RemoteAddr] = leaf.SerialNumber.String()
	l.mu.Unlock()
	sum := sha256.Sum256(leaf.Raw)
	_, _ = fmt.Fprintf(rw, "%s %s %s %s %q", leaf.URIs[0], hex.EncodeToString(sum[:6]), r.RemoteAddr, r.Proto, r.Header.Get("Authorization"))
}

// seen is what the ledger saw of a request.
type seen struct{ id, cert, conn, proto string }

func (w *world) ledgerSees(t *testing.T, c *http.Client) seen {
	t.Helper()
	r := request(t, "GET", "https://"+echoHost+"/balance", nil)
	r.Header.Set("Authorization", "Bearer "+Placeholder)
	resp := do(t, c, r)
	text := body(t, resp)
	f := strings.Fields(text)
	if resp.StatusCode != 200 || len(f) != 5 || f[4] != `""` {
		t.Fatalf("%d %s", resp.StatusCode, text)
	}
	return seen{f[0], f[1], f[2], f[3]}
}

// second opens an entrance for another workload, with a Workload API of its own.
func (w *world) second(t *testing.T, name, id string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	api := must(w.issuer.Listen(filepath.Join(t.TempDir(), "api", "agent.sock"), embedded.Entry{ID: spiffeid.RequireFromString(id)}))(t)
	wg.Go(func() { _ = api.Serve(ctx) })
	domains := []spiffeid.TrustDomain{spiffeid.RequireTrustDomainFromString("acme.example")}
	src := must(identity.NewSource(identity.SourceOptions{Address: api.Address(), TrustDomains: domains}))(t)
	wg.Go(func() { _ = src.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	select {
	case <-src.Ready():
	case <-time.After(10 * time.Second):
		t.Fatal("no SVID")
	}
	w.open(Entrance{Name: name, Identity: identity.NewSidecar(src, identity.SidecarOptions{})})
}

func TestADestinationThatDemandsClientCertificates(t *testing.T) {
	for name, change := range map[string]func(*tls.Config){
		"TLS 1.3":    func(*tls.Config) {},
		"TLS 1.2":    func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 },
		"TLS 1.3 h1": func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} },
		"TLS 1.2 h1": func(c *tls.Config) { c.NextProtos, c.MaxVersion = []string{"http/1.1"}, tls.VersionTLS12 },
	} {
		t.Run(name, func(t *testing.T) {
			w, _ := newMTLSWorld(t, change)
			want := "HTTP/2.0"
			if strings.HasSuffix(name, "h1") {
				want = "HTTP/1.1"
			}
			both := w.ledgerSees(t, w.client("sidecar"))
			if both.id != jobID || both.proto != want {
				t.Errorf("client of both: %+v, want %s", both, want)
			}
			if h1 := w.ledgerSees(t, w.client("sidecar", http1)); h1.id != jobID || h1.proto != "HTTP/1.1" {
				t.Errorf("client of HTTP/1.1: %+v", h1)
			}
			for _, r := range w.wait(2, func(r record) bool { return r.Method == "GET" }) {
				if r.Fingerprint != "sha256:"+both.cert || r.Verdict != "allow" || r.Credential != "ledger-svid" {
					t.Errorf("record %+v", r)
				}
			}
		})
	}
}

// Connections are kept by client certificate: one is used again, but not after a rotation
// and not by anybody else.
func TestMUST_T8_ConnectionsAreKeptApartByClientCertificate(t *testing.T) {
	for name, change := range map[string][]func(*http.Transport){"h2": nil, "h1": {http1}} {
		t.Run(name, func(t *testing.T) {
			w, l := newMTLSWorld(t, func(*tls.Config) {})
			w.second(t, "other", idleID)
			ours, theirs := w.client("sidecar", change...), w.client("other", change...)
			first, again, other := w.ledgerSees(t, ours), w.ledgerSees(t, ours), w.ledgerSees(t, theirs)
			if first != again {
				t.Errorf("the connection is not used again: %+v, %+v", first, again)
			}
			if other.id != idleID || other.conn == first.conn || other.cert == first.cert {
				t.Errorf("another workload got %+v, and ours had %+v", other, first)
			}
			w.rotate(t, l, first)
			rotated := w.ledgerSees(t, ours)
			if rotated.id != jobID || rotated.cert == first.cert || rotated.conn == first.conn {
				t.Errorf("after the rotation %+v, before it %+v", rotated, first)
			}
			if third := w.ledgerSees(t, theirs); third.id != idleID || third.conn == rotated.conn {
				t.Errorf("%+v", third)
			}
		})
	}
}

// rotate gives all workloads another X.509-SVID, and lets the cache ask for ours.
func (w *world) rotate(t *testing.T, l *ledger, before seen) {
	t.Helper()
	if err := w.issuer.Rotate(); err != nil {
		t.Fatal(err)
	}
	l.trust(t, w)
	caller := must(w.sidecar.Resolve(t.Context(), identity.Peer{}))(t)
	eventually(t, "rotated", func() bool {
		cert, err := caller.X509SVID(t.Context())
		if err != nil {
			return false
		}
		sum := sha256.Sum256(cert.Certificate[0])
		return hex.EncodeToString(sum[:6]) != before.cert
	})
	k := credential.Key{ID: spiffeid.RequireFromString(jobID), Provider: "ledger-svid", Generation: "1"}
	w.cache.Invalidate(k, "sha256:"+before.cert)
}

// Who shows only a bearer token has no X.509-SVID that egret could present, and egret's
// own is not presented instead (MUST I8).
func TestMUST_I8_NoOtherCertificateIsPresented(t *testing.T) {
	w, l := newMTLSWorld(t, func(*tls.Config) {})
	resp := do(t, w.meshClient(w.svid(jobID, time.Hour)), request(t, "GET", "https://"+echoHost+"/balance", nil))
	text := body(t, resp)
	if p := problemOf(t, text); resp.StatusCode != 503 || p.Layer != "credential" {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.conns) != 0 {
		t.Errorf("the ledger was asked with %v", l.conns)
	}
}
