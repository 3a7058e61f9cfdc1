// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/egret-proxy/egret/certs"
	"github.com/egret-proxy/egret/cmd/egret/internal/nodetest"
	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/identity/embedded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// place is a folder with a CA on disk, a Workload API, and settings without a fault.
type place struct {
	*nodetest.World
	o Options
}

func newPlace(t *testing.T) *place {
	t.Helper()
	dir, err := os.MkdirTemp("", "egd") // short enough for sockets
	check(t, err)
	w, err := nodetest.New(dir, embedded.Options{})
	check(t, err)
	t.Cleanup(func() {
		w.Close()
		_ = os.RemoveAll(dir)
	})
	p := &place{World: w}
	p.intermediate(t, time.Hour)
	p.o = Options{
		Wait: 500 * time.Millisecond, Getenv: func(string) string { return "" }, HostNetwork: func() bool { return false },
		Config: &config.Node{
			Listeners: []config.Listener{{Name: "in", Address: "127.0.0.1:0", Kind: "forward", Identify: config.Identify{Sidecar: &config.Sidecar{}}}},
			Spiffe:    config.Spiffe{TrustDomains: []string{"acme.example"}, WorkloadAPI: "unix://" + w.Socket()},
			Certs:     config.Certs{Issuer: config.CertIssuer{File: []config.IssuerFile{{Chain: p.file("chain.pem"), Key: p.file("key.pem")}}}},
			Metrics:   config.Metrics{Address: "127.0.0.1:0"},
		},
	}
	return p
}

func (p *place) file(name string) string { return filepath.Join(p.Dir, name) }

func (p *place) intermediate(t *testing.T, ttl time.Duration) {
	t.Helper()
	root, err := certs.NewRoot(certs.RootOptions{Domains: []string{"slack.com"}})
	check(t, err)
	ca, err := root.Intermediate(certs.IntermediateOptions{Hosts: []string{"slack.com"}, TTL: ttl})
	check(t, err)
	key, err := ca.EncodeKey()
	check(t, err)
	check(t, p.Write("chain.pem", string(ca.EncodeChain())))
	check(t, p.Write("key.pem", string(key)))
	check(t, p.Write("root.pem", string(certs.EncodeCertificates(root.Certificate()))))
}

// find returns the finding of a check.
func find(t *testing.T, list []Finding, name string) Finding {
	t.Helper()
	for _, f := range list {
		if f.Check == name {
			return f
		}
	}
	t.Fatalf("nothing is said about %q in %v", name, list)
	return Finding{}
}

func TestGoodPlace(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.o.Getenv = func(string) string { return p.file("root.pem") }
	list := Examine(t.Context(), p.o)
	for _, f := range list {
		if f.Level == Fail {
			t.Errorf("%+v", f)
		}
		if (f.Change == "") != (f.Level == OK) || f.Found == "" {
			t.Errorf("what is not well comes with what to change: %+v", f)
		}
	}
	for name, want := range map[string]string{
		"own SVID":                           nodetest.Dashboard,
		"trust domain acme.example":          "1 X.509 authorities",
		"CA " + p.file("chain.pem"):          "may sign for [slack.com]",
		"client trust":                       "holds egret's roots",
		"network namespace":                  "one of its own",
		"caller at in":                       "keeps the pod's loopback private",
		"CA " + p.file("chain.pem") + " key": "only its owner",
	} {
		if f := find(t, list, name); f.Level != OK || !strings.Contains(f.Found, want) {
			t.Errorf("%+v, want %q", f, want)
		}
	}
}

func TestBrokenPlaces(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		breaks func(*testing.T, *place)
		check  string
		level  Level
		found  string
		change string
	}{
		"no Workload API": {func(_ *testing.T, p *place) { p.StopIdentity() }, "workload API", Fail, "has not answered yet", "start the SPIFFE agent"},
		"a trust domain without a bundle": {func(_ *testing.T, p *place) {
			p.o.Config.Spiffe.TrustDomains = append(p.o.Config.Spiffe.TrustDomains, "other.example")
		}, "trust domain other.example", Fail, "no X.509 bundle", "federate"},
		"an SVID of nobody's trust domain": {func(_ *testing.T, p *place) {
			p.o.Config.Spiffe.TrustDomains = []string{"other.example"}
		}, "own SVID", Fail, "acme.example", "registration entries"},
		"a key for all to read": {func(t *testing.T, p *place) { check(t, os.Chmod(p.file("key.pem"), 0o644)) }, "CA $DIR/chain.pem", Fail, "0644", "chmod 0600"},
		"a key for its group":   {func(t *testing.T, p *place) { check(t, os.Chmod(p.file("key.pem"), 0o640)) }, "CA $DIR/chain.pem key", Warn, "0640", "chmod 0600"},
		"an intermediate gone":  {func(t *testing.T, p *place) { check(t, os.Remove(p.file("chain.pem"))) }, "CA $DIR/chain.pem", Fail, "no such file", "egret ca issue"},
		"a bundle without our root": {func(_ *testing.T, p *place) {
			p.o.Getenv = func(string) string { return p.file("twins.pem") }
		}, "client trust", Warn, "does not hold egret's root", "egret ca bundle"},
		"an ephemeral CA that nobody can trust": {func(_ *testing.T, p *place) {
			p.o.Config.Certs.Issuer = config.CertIssuer{Ephemeral: &config.Ephemeral{}}
		}, "CA", Warn, "never written down", "certs.issuer.ephemeral.bundle"},
		"no folder for the admin socket": {func(_ *testing.T, p *place) { p.o.Config.Admin.Socket = p.file("no/admin.sock") }, "admin socket", Fail, "no such file", "make the folder"},
		"a file for an admin socket":     {func(_ *testing.T, p *place) { p.o.Config.Admin.Socket = p.file("key.pem") }, "admin socket", Fail, "not a socket", "remove it"},
		"no egret":                       {func(_ *testing.T, p *place) { p.o.Config.Admin.Socket = p.file("admin.sock") }, "admin socket", Warn, "no egret runs", "run egret"},
		"a metrics port of another's":    {func(t *testing.T, p *place) { p.o.Config.Metrics.Address = deaf(t) }, "metrics", Fail, "in use", "free the address"},
		"a listener's port taken":        {func(t *testing.T, p *place) { p.o.Config.Listeners[0].Address = deaf(t) }, "listener in", Fail, "in use", "free the address"},
		"a listener without its key": {func(_ *testing.T, p *place) {
			p.o.Config.Listeners[0].TLS = &config.ListenerTLS{Cert: p.file("listener.pem"), Key: p.file("nothing")}
		}, "listener in", Fail, "no such file", "tls.key"},
		"a delegated API that is not there": {func(_ *testing.T, p *place) {
			p.o.Config.Listeners[0].Identify = config.Identify{Process: &config.Process{Attestor: "delegated"}}
			p.o.Config.Spiffe.Delegated = &config.AgentSocket{Socket: "unix://" + p.file("admin/api.sock")}
		}, "delegated identity API", Fail, "api.sock", "admin_socket_path"},
		"a broker API that is not there": {func(_ *testing.T, p *place) {
			p.o.Config.Listeners[0].Identify = config.Identify{Process: &config.Process{Attestor: "broker"}}
			p.o.Config.Spiffe.Broker = &config.AgentSocket{Socket: "unix://" + p.file("broker/b.sock")}
		}, "SPIFFE broker API", Fail, "b.sock", "experimental.broker.socket_path"},
		"a broker API that nobody serves": {func(t *testing.T, p *place) {
			p.o.Config.Listeners[0].Identify = config.Identify{Process: &config.Process{Attestor: "broker", Reference: "pod"}}
			p.o.Config.Spiffe.Broker = &config.AgentSocket{Socket: "unix://" + abandoned(t, p.file("left.sock"))}
		}, "SPIFFE broker API by pod", Fail, "refused", "start the agent"},
		"a broker without an SVID": {func(t *testing.T, p *place) {
			p.StopIdentity()
			p.o.Config.Listeners[0].Identify = config.Identify{Process: &config.Process{Attestor: "broker"}}
			p.o.Config.Spiffe.Broker = &config.AgentSocket{Socket: "unix://" + p.file("broker/b.sock")}
		}, "SPIFFE broker API", Fail, "no SVID", "own SVID"},
		"nobody to be known by": {func(_ *testing.T, p *place) { p.o.Config.Listeners[0].Identify = config.Identify{} }, "caller at in", Fail, "nobody", "identify"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			tc.breaks(t, p)
			f := find(t, Examine(t.Context(), p.o), strings.ReplaceAll(tc.check, "$DIR", p.Dir))
			if f.Level != tc.level || !strings.Contains(f.Found, tc.found) || !strings.Contains(f.Change, tc.change) {
				t.Errorf("%+v, want %s %q %q", f, tc.level, tc.found, tc.change)
			}
		})
	}
}

// TestCrashIsSeen: a socket that nobody listens on is not an egret.
func TestCrashIsSeen(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	socket := p.file("left.sock")
	l := listenUnix(t, socket)
	p.o.Config.Admin.Socket = socket
	if f := find(t, Examine(t.Context(), p.o), "listener in"); !strings.Contains(f.Found, "the egret that runs") {
		t.Errorf("somebody listens, who does not answer us: %+v", f)
	}
	check(t, l.Close())
	list := Examine(t.Context(), p.o)
	if f := find(t, list, "admin socket"); f.Level != Warn || !strings.Contains(f.Change, "run egret") {
		t.Errorf("%+v", f)
	}
	if f := find(t, list, "listener in"); !strings.Contains(f.Found, "is free") {
		t.Errorf("%+v", f)
	}
}

func listenUnix(t *testing.T, socket string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	check(t, err)
	l.SetUnlinkOnClose(false)
	return l
}

// abandoned is a socket that nobody listens on any more.
func abandoned(t *testing.T, socket string) string {
	t.Helper()
	check(t, listenUnix(t, socket).Close())
	return socket
}

// deaf is a port that is taken by something that answers nothing.
func deaf(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

func TestEvidence(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		address  string
		identify config.Identify
		want     []string
	}{
		"same user": {"127.0.0.1:0", config.Identify{Sidecar: &config.Sidecar{SameUser: true}}, []string{nodetest.Dashboard, "egret's own", "the kernel says which uid"}},
		"x509":      {"127.0.0.1:0", config.Identify{X509SVID: &config.X509SVID{}}, []string{nodetest.Dashboard, "handshake proves"}},
		"jwt":       {"127.0.0.1:0", config.Identify{JWTSVID: &config.JWTSVID{Audience: "egret"}}, []string{nodetest.Dashboard, `"egret"`, "which the agent gives you", "bearer"}},
		"kube":      {"127.0.0.1:0", config.Identify{KubernetesToken: &config.KubernetesToken{Audience: "egret"}}, []string{"kube-apiserver signed it"}},
		"tcp process": {"127.0.0.1:0", config.Identify{Process: &config.Process{Attestor: "delegated", RootCgroup: true}},
			[]string{"cgroup /", "uid", "attests a process of both"}},
		"steered": {"steer:///tmp/x.sock", config.Identify{Process: &config.Process{Attestor: "delegated", RootCgroup: true}},
			[]string{"in a pod", "network namespace", "must be that pod's", "word of who made"}},
		"unix process": {"unix:///tmp/x.sock", config.Identify{Process: &config.Process{Attestor: "broker"}}, []string{"your very process", "pidfd"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tc.identify.Process != nil && runtime.GOOS != "linux" {
				t.Skip("processes are known on Linux")
			}
			p := newPlace(t)
			p.o.Config.Listeners[0].Address, p.o.Config.Listeners[0].Identify = tc.address, tc.identify
			f := find(t, Examine(t.Context(), p.o), "caller at in")
			for _, want := range append(tc.want, "trust: ") {
				if f.Level != OK || !strings.Contains(f.Found, want) {
					t.Errorf("%+v has no %q", f, want)
				}
			}
		})
	}
}

func TestLifeIsJudged(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, tc := range map[string]struct {
		from, to time.Duration
		want     Level
	}{
		"fresh": {-time.Minute, time.Hour, OK}, "late": {-time.Hour, time.Minute, Warn}, "ended": {-time.Hour, -time.Second, Fail},
	} {
		e := &examination{}
		e.life("x", "it", span{now.Add(tc.from), now.Add(tc.to)}, "renew it")
		if e.found[0].Level != tc.want {
			t.Errorf("%s: %+v", name, e.found[0])
		}
	}
}
