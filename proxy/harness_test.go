// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"

	"github.com/egret-proxy/egret/audit"
	"github.com/egret-proxy/egret/certs"
	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/identity/embedded"
	"github.com/egret-proxy/egret/internal/saas"
	"github.com/egret-proxy/egret/internal/secret"
	"github.com/egret-proxy/egret/policy"
)

// standardForwarder runs the whole suite against httputil.ReverseProxy: go test ./proxy -standard
//
//nolint:gochecknoglobals // a flag of the tests
var standardForwarder = flag.Bool("standard", false, "forward with httputil.ReverseProxy")

// A server's connection that was closed on unread bytes lingers for half a second.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// Names of the test world.
const (
	echoHost  = "api.echo.example"
	otherHost = "other.echo.example"
	pinHost   = "pinned.echo.example"
	h1Host    = "old.echo.example"
	jobID     = "spiffe://acme.example/ns/qa/sa/dashboard"
	idleID    = "spiffe://acme.example/ns/ci/sa/build-agent"
	strangeID = "spiffe://acme.example/ns/x/sa/stranger"
)

// world is egret's data path with everything real around it but the SaaS: an embedded
// SPIFFE issuer behind a Workload API socket, a CA, a credential cache, an audit log.
type world struct {
	t       testing.TB
	issuer  *embedded.Issuer
	tokens  *saas.Issuer
	echo    *saas.Echo
	twin    *saas.Server
	ca      *saas.CA
	policy  atomic.Pointer[policy.Policy]
	set     policy.Set
	minter  *minter
	cache   *credential.Cache
	pool    *Pool
	records *recordSink
	srv     *Server
	leafCA  *certs.EphemeralIssuer
	addr    map[string]string // by entrance
	sidecar identity.Resolver // credits everybody as the dashboard
	logs    *syncBuffer
	reg     *prometheus.Registry
}

// option changes the world before it starts.
type option func(*worldConfig)

type worldConfig struct {
	limits  Limits
	pool    func(*PoolOptions)
	policy  func(*policy.Set)
	audit   func(*audit.Options)
	hosts   []saas.Host
	dialer  func(*Dialer)
	refused *policy.Refused
	source  credential.Source // instead of the cache

	standard bool // forward with httputil.ReverseProxy
}

func newWorld(t testing.TB, opts ...option) *world {
	t.Helper()
	cfg := worldConfig{}
	for _, o := range opts {
		o(&cfg)
	}
	w := &world{t: t, addr: map[string]string{}, logs: &syncBuffer{}, reg: prometheus.NewRegistry()}
	w.startTwins(cfg)
	w.startPolicy(cfg)
	w.startCredentials()
	w.startServer(cfg)
	return w
}

func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (w *world) startTwins(cfg worldConfig) {
	w.tokens = saas.NewIssuer(time.Now)
	w.echo = saas.NewEcho(saas.EchoConfig{Tokens: w.tokens})
	w.ca = must(saas.NewCA())(w.t)
	hosts := append([]saas.Host{
		{Name: echoHost, Handler: w.echo}, {Name: otherHost, Handler: w.echo}, {Name: pinHost, Handler: w.echo},
		{Name: h1Host, Handler: w.echo, HTTP1Only: true},
	}, cfg.hosts...)
	w.twin = must(saas.Listen(w.ca, hosts...))(w.t)
	w.t.Cleanup(func() { _ = w.twin.Close() })
}

func (w *world) startPolicy(cfg worldConfig) {
	job := &policy.Workload{Name: "dashboard", Owner: "qa@acme.example", Environment: "production",
		Evidence: []string{identity.EvidenceSidecar, identity.EvidenceX509SVID, identity.EvidenceJWTSVID}}
	idle := &policy.Workload{Name: "build-agent", Owner: "ci@acme.example", Environment: "production", Evidence: job.Evidence}
	dest := func(name string, intercept bool, hosts ...string) *policy.Destination {
		return &policy.Destination{Name: name, Hosts: hosts, Ports: []uint16{443}, Intercept: intercept,
			Dial: w.twin.Addr(), Roots: w.ca.Pool(), RootsDigest: "test", Refused: cfg.refused}
	}
	echo, pinned, old := dest("echo", true, echoHost, otherHost), dest("pinned", false, pinHost), dest("old", true, h1Host)
	cred := &policy.Credential{Name: "echo-token", Generation: "1"}
	rule := func(d *policy.Destination, path string, methods ...string) *policy.Rule {
		return &policy.Rule{Policy: "dashboard-" + d.Name, Owner: "qa@acme.example", Workload: job, Destination: d,
			Environment: "production", Credential: cred, PathTemplate: path, Methods: methods, Digest: "d1g3st",
			Expires: time.Now().Add(time.Hour), Upgrade: []string{"websocket"}}
	}
	all := []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"}
	w.set = policy.Set{
		Digest:       "set1",
		Bindings:     []policy.Binding{{Pattern: jobID, Workload: job}, {Pattern: idleID, Workload: idle}},
		Destinations: []*policy.Destination{echo, pinned, old},
		Rules:        []*policy.Rule{rule(echo, "/**", all...), rule(old, "/**", all...)},
		Tunnels:      []*policy.Rule{rule(pinned, "/**")},
	}
	if cfg.policy != nil {
		cfg.policy(&w.set)
	}
	w.policy.Store(policy.New(w.set))
}

// minter is a provider that mints tokens which the twin accepts.
type minter struct {
	tokens   *saas.Issuer
	lifetime time.Duration
	fail     atomic.Pointer[credential.Error]
	mints    atomic.Int64
	last     atomic.Pointer[secret.Secret]
	poison   atomic.Pointer[string] // hand out this value instead
}

func (m *minter) Fetch(context.Context, credential.Key, credential.Subject) (credential.Token, error) {
	if e := m.fail.Load(); e != nil {
		return credential.Token{}, e
	}
	m.mints.Add(1)
	tok := m.tokens.Issue([]string{"echo"}, m.lifetime)
	if p := m.poison.Load(); p != nil {
		tok = secret.New(*p)
	}
	m.last.Store(&tok)
	return credential.Token{Values: map[string]secret.Secret{"token": tok}, Lifetime: m.lifetime}, nil
}

func (w *world) startCredentials() {
	w.minter = &minter{tokens: w.tokens, lifetime: time.Hour}
	w.cache = must(credential.NewCache(credential.CacheOptions{}))(w.t)
	w.t.Cleanup(w.cache.Close)
	inj := must(credential.NewInjection(credential.InjectionConfig{Header: "Authorization", Value: "Bearer {token}"}))(w.t)
	w.cache.Install([]credential.Spec{{Name: "echo-token", Generation: "1", Provider: w.minter, Inject: []credential.Injection{inj}}})
}

func (w *world) startServer(cfg worldConfig) {
	t := w.t
	w.records = &recordSink{}
	ao := audit.Options{Writer: audit.NewStream(w.records), Queue: 1024, PanicOnMisuse: true}
	if cfg.audit != nil {
		cfg.audit(&ao)
	}
	journal := must(audit.NewLog(ao))(t)
	w.leafCA = must(certs.NewEphemeralIssuer(certs.EphemeralOptions{Hosts: []string{echoHost, otherHost, h1Host}}))(t)
	authority := must(certs.NewAuthority(certs.AuthorityOptions{Issuer: w.leafCA, Listed: func(h string) bool {
		return w.policy.Load().Destination(policy.Target{Host: h, Port: 443}) != nil
	}}))(t)
	dialer := &Dialer{Resolver: NewResolver(nil)}
	if cfg.dialer != nil {
		cfg.dialer(dialer)
	}
	po := PoolOptions{Dialer: dialer, Roots: x509.NewCertPool()}
	if cfg.pool != nil {
		cfg.pool(&po)
	}
	w.pool = must(NewPool(po))(t)
	var source credential.Source = w.cache
	if cfg.source != nil {
		source = cfg.source
	}
	w.srv = must(New(Deps{
		Policy: w.policy.Load, Credentials: source, Leaves: authority, Upstream: w.pool, Audit: journal,
		Logger: slog.New(slog.NewTextHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug})), Registerer: w.reg,
	}, cfg.limits))(t)
	if cfg.standard || *standardForwarder {
		w.srv.forward, w.pool.standard = w.srv.forward.(*relay).standard, true
	}
	w.startIdentity()
	t.Cleanup(func() {
		w.srv.Close()
		w.pool.Close()
		authority.Close()
		if err := journal.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("audit: %v", err)
		}
	})
}

// startIdentity opens three entrances: "sidecar" (a real Workload API behind it), "mesh"
// (mTLS) and "jwt".
func (w *world) startIdentity() {
	t, td := w.t, spiffeid.RequireTrustDomainFromString("acme.example")
	w.issuer = must(embedded.New(embedded.Options{TrustDomain: td}))(t)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	socket := filepath.Join(t.TempDir(), "api", "agent.sock")
	api := must(w.issuer.Listen(socket, embedded.Entry{ID: spiffeid.RequireFromString(jobID)}))(t)
	wg.Go(func() { _ = api.Serve(ctx) })
	src := must(identity.NewSource(identity.SourceOptions{Address: api.Address(), TrustDomains: []spiffeid.TrustDomain{td}}))(t)
	wg.Go(func() { _ = src.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	select {
	case <-src.Ready():
	case <-time.After(10 * time.Second):
		t.Fatal("no SVID")
	}
	x509r := must(identity.NewX509(identity.X509Options{Bundles: w.issuer.Bundles(), TrustDomains: []spiffeid.TrustDomain{td}}))(t)
	jwtr := must(identity.NewJWT(identity.JWTOptions{Bundles: w.issuer.Bundles(), TrustDomains: []spiffeid.TrustDomain{td}, Audience: "egret"}))(t)
	w.sidecar = identity.NewSidecar(src, identity.SidecarOptions{})
	w.open(Entrance{Name: "sidecar", Identity: w.sidecar})
	w.open(Entrance{Name: "mesh", Identity: x509r, TLS: &tls.Config{Certificates: []tls.Certificate{*must(w.ca.Certificate("localhost"))(t)}}})
	w.open(Entrance{Name: "jwt", Identity: jwtr, Challenge: true})
}

func (w *world) open(e Entrance) {
	e.Listener = must(net.Listen("tcp", "127.0.0.1:0"))(w.t)
	w.addr[e.Name] = e.Listener.Addr().String()
	go func() { _ = w.srv.Serve(e) }()
}

// roots is what a client of egret trusts: its CA and, for tunnels, the twin's.
func (w *world) roots() *x509.CertPool {
	p := w.ca.Pool().Clone()
	for _, c := range w.leafCA.Roots() {
		p.AddCert(c)
	}
	return p
}

// client is a Go client that goes through the entrance.
func (w *world) client(entrance string, change ...func(*http.Transport)) *http.Client {
	u := &url.URL{Scheme: "http", Host: w.addr[entrance]}
	tr := &http.Transport{Proxy: http.ProxyURL(u), TLSClientConfig: &tls.Config{RootCAs: w.roots()}, ForceAttemptHTTP2: true}
	for _, c := range change {
		c(tr)
	}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

func http1(tr *http.Transport) {
	tr.ForceAttemptHTTP2 = false
	tr.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
}

// get fetches a URL and returns the answer with its body read.
func (w *world) get(c *http.Client, url string) (*http.Response, string) {
	w.t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		w.t.Fatalf("GET %s: %v", url, err)
	}
	return resp, body(w.t, resp)
}

func body(t testing.TB, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("reading the body: %v", err)
	}
	_ = resp.Body.Close()
	return string(b)
}

// tunnelTo opens a CONNECT tunnel by hand and returns the raw connection after the 200.
func (w *world) tunnelTo(entrance, authority string) net.Conn {
	w.t.Helper()
	conn, status := w.connect(entrance, authority, "")
	if !strings.HasPrefix(status, "HTTP/1.1 200") {
		w.t.Fatalf("CONNECT %s: %s", authority, status)
	}
	return conn
}

// connect sends a CONNECT by hand and returns the answer's head.
func (w *world) connect(entrance, authority, extra string) (net.Conn, string) {
	w.t.Helper()
	conn := must(net.Dial("tcp", w.addr[entrance]))(w.t)
	w.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, "CONNECT "+authority+" HTTP/1.1\r\nHost: "+authority+"\r\n"+extra+"\r\n"); err != nil {
		w.t.Fatal(err)
	}
	return conn, readHead(conn)
}

// readHead reads one HTTP head byte by byte, so that nothing behind it is lost.
func readHead(conn net.Conn) string {
	var b []byte
	one := make([]byte, 1)
	for !bytes.HasSuffix(b, []byte("\r\n\r\n")) {
		if _, err := io.ReadFull(conn, one); err != nil {
			return string(b)
		}
		b = append(b, one[0])
	}
	return string(b)
}

// inside opens TLS inside a tunnel, with any SNI, and returns it for raw HTTP/1.1.
func (w *world) inside(connectTo, sni string) *tls.Conn {
	w.t.Helper()
	tc := tls.Client(w.tunnelTo("sidecar", connectTo), &tls.Config{RootCAs: w.roots(), ServerName: sni, NextProtos: []string{"http/1.1"}})
	if err := tc.Handshake(); err != nil {
		w.t.Fatalf("handshake as %s: %v", sni, err)
	}
	return tc
}

// raw sends bytes inside TLS to the echo host and returns everything that comes back.
func (w *world) raw(request string) string {
	w.t.Helper()
	tc := w.inside(echoHost+":443", echoHost)
	if _, err := io.WriteString(tc, request); err != nil {
		w.t.Fatal(err)
	}
	_ = tc.SetReadDeadline(time.Now().Add(3 * time.Second))
	b, _ := io.ReadAll(tc)
	return string(b)
}

// recordSink collects the audit log's lines.
type recordSink struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *recordSink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *recordSink) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// record is what tests look at of a line.
type record struct {
	Schema, Kind, ID, Listener, Workload, Evidence, Owner, Policy, Credential, Fingerprint, Environment string
	Method, Host, Verdict, Layer, Reason, Detail, Proto                                                 string
	PathTemplate                                                                                        string `json:"path_template"`
	PolicySet                                                                                           string `json:"policy_set"`
	PolicyDigest                                                                                        string `json:"policy_digest"`
	Operation                                                                                           string
	CallerCredential                                                                                    string `json:"caller_credential"`
	UpstreamIP                                                                                          string `json:"upstream_ip"`
	Original                                                                                            string
	OriginalMismatch                                                                                    bool `json:"original_mismatch"`
	ECH                                                                                                 bool `json:"ech"`
	Status                                                                                              int
	Observed                                                                                            bool
	BytesIn                                                                                             int64 `json:"bytes_in"`
	BytesOut                                                                                            int64 `json:"bytes_out"`
}

// wait returns the records that pass the filter, once there are n of them; more than n
// is a failure, since every request has exactly one record.
func (w *world) wait(n int, keep func(record) bool) []record {
	w.t.Helper()
	var out []record
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		out = out[:0]
		for _, line := range strings.Split(strings.TrimSpace(w.records.text()), "\n") {
			var r record
			if line != "" && json.Unmarshal([]byte(line), &r) == nil && keep(r) {
				out = append(out, r)
			}
		}
		if len(out) >= n {
			break
		}
	}
	if len(out) != n {
		w.t.Fatalf("%d records instead of %d; all:\n%s", len(out), n, w.records.text())
	}
	return out
}

func any1(record) bool { return true }

// last waits for exactly one record of this request id.
func (w *world) recordOf(resp *http.Response) record {
	w.t.Helper()
	_, id, ok := strings.Cut(resp.Header.Get("Egret-Decision"), "id=")
	if !ok {
		w.t.Fatalf("no Egret-Decision in %v", resp.Header)
	}
	return w.wait(1, func(r record) bool { return r.ID == id })[0]
}

// syncBuffer is a log that tests can read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// report decodes what the echo twin saw.
func report(t testing.TB, body string) saas.EchoReport {
	t.Helper()
	var rep saas.EchoReport
	if err := json.Unmarshal([]byte(body), &rep); err != nil {
		t.Fatalf("not a report: %v in %q", err, body)
	}
	return rep
}

// problemOf decodes a refusal's body.
func problemOf(t testing.TB, body string) problem {
	t.Helper()
	var p problem
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatalf("not a problem: %v in %q", err, body)
	}
	return p
}

var errUnreachable = &credential.Error{Kind: credential.Unreachable, Err: errors.New("connection refused")}
