// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration

package aws

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/template"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/identity/embedded"
	"github.com/egret-proxy/egret/integration/internal/testbed"
	"github.com/egret-proxy/egret/internal/saas"
)

// Names of the tests. No key is one that AWS would give.
const (
	storeHost  = "s3.store.test"
	stsHost    = "sts.store.test"
	dynamoHost = "dynamodb.us-east-1.amazonaws.com"
	awsSTSHost = "sts.us-east-1.amazonaws.com"
	appID      = "spiffe://acme.example/ns/data/sa/reports"
	bucket     = "reports"
	region     = "us-east-1"
	rootKey    = "EGRETTESTROOT"
	rootSecret = "the-root-secret-of-the-store"
)

// world is what is around egret: an issuer of SPIFFE IDs, a CA for the servers, and a
// folder with the files of a node.
type world struct {
	dir     string
	ca      *saas.CA
	issuer  *embedded.Issuer
	api     string
	secrets []string // that must never be written down
	values  map[string]any
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ca, err := saas.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{dir: t.TempDir(), ca: ca, secrets: []string{rootSecret}, values: map[string]any{}}
	iss, err := embedded.New(embedded.Options{
		TrustDomain: spiffeid.RequireTrustDomainFromString("acme.example"), JWTIssuer: "https://" + oidcHost,
	})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := iss.Listen(filepath.Join(w.dir, "spiffe", "agent.sock"), embedded.Entry{ID: spiffeid.RequireFromString(appID)})
	if err != nil {
		t.Fatal(err)
	}
	w.issuer, w.api = iss, srv.Address()
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { _ = srv.Serve(ctx) })
	t.Cleanup(func() { cancel(); done.Wait() })
	w.write(t, "servers.pem", ca.PEM())
	w.egret(t, "ca", "init", "--domains", "store.test,amazonaws.com", "--out", w.file("ca"))
	w.egret(t, "ca", "issue", "--root", w.file("ca"), "--out", w.file("issuer"),
		"--host", storeHost, "--host", stsHost, "--host", dynamoHost, "--host", awsSTSHost)
	return w
}

func (w *world) file(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(t *testing.T, name string, text []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(w.file(name)), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.file(name), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (w *world) egret(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(os.Getenv(egretVar), args...).CombinedOutput(); err != nil {
		t.Fatalf("egret %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (w *world) render(t *testing.T, name string) {
	t.Helper()
	text, err := template.ParseFiles(filepath.Join("testdata", name+".tmpl"))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := text.Execute(&out, w.values); err != nil {
		t.Fatal(err)
	}
	w.write(t, name, out.Bytes())
}

// pair writes a server's certificate and key.
func (w *world) pair(t *testing.T, host string) (cert, key string) {
	t.Helper()
	c, err := w.ca.Certificate(host)
	if err != nil {
		t.Fatal(err)
	}
	return w.writePair(t, host, c)
}

func (w *world) writePair(t *testing.T, name string, c *tls.Certificate) (cert, key string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	var chain []byte
	for _, der := range c.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	w.write(t, name+".pem", chain)
	w.write(t, name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	return w.file(name + ".pem"), w.file(name + ".key")
}

// freePort is not taken by anybody else: the namespace is ours.
func freePort(t *testing.T) string {
	t.Helper()
	return "127.0.0.1:" + itoa(testbed.FreePort(t))
}

// serve runs a server until the test ends, and waits until it listens.
func (w *world) serve(t *testing.T, address string, env []string, argv ...string) {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	var log testbed.Log
	cmd.Stdout, cmd.Stderr, cmd.Env = &log, &log, append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(argv[0]), testbed.Tail(log.String()))
		}
	})
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			_ = c.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not listen at %s", argv[0], address)
		}
	}
}

// egret is a running `egret run`.
type egret struct {
	*testbed.Egret
	world *world
}

// start runs egret with the world's files until the test ends, and looks for secrets in all
// that it wrote.
func (w *world) start(t *testing.T) *egret {
	t.Helper()
	w.values["WorkloadAPI"] = w.api
	w.render(t, "egret.yaml")
	cmd := exec.Command(os.Getenv(egretVar), "run", "-c", w.file("egret.yaml"))
	cmd.Dir = w.dir
	e := &egret{testbed.Run(t, cmd), w}
	t.Cleanup(func() {
		if e.Stop(); e.Reveals(w.secrets...) {
			t.Error("MUST C9: egret wrote down a secret key")
		}
	})
	return e
}

func (e *egret) proxy() string { return e.Address("sidecar") }

// memory returns egret's resident set in KiB: now, and the most that it ever was.
func (e *egret) memory(t *testing.T) (now, most int) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", itoa(e.Pid()), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		switch {
		case len(f) < 2:
		case f[0] == "VmRSS:":
			now = atoi(f[1])
		case f[0] == "VmHWM:":
			most = atoi(f[1])
		}
	}
	return now, most
}
