// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package integration

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
	"testing"
	"text/template"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/identity/embedded"
	"github.com/egret-proxy/egret/internal/saas"
	"github.com/egret-proxy/egret/internal/secret"
)

// Workloads of the tests.
const (
	idPrefix = "spiffe://acme.example/ns/qa/sa/"
	audience = "spiffe://acme.example/egret"
)

// world is everything outside egret: the SaaS, the SPIFFE issuer, and the files of a
// node, in a folder of their own.
type world struct {
	dir         string
	twins       *saas.Server
	arrivals    *arrivals
	issuer      *embedded.Issuer
	workloadAPI string
	keys        map[string]secret.Secret // by Credential
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), keys: map[string]secret.Secret{}}
	w.startIssuer(t)
	w.startTwins(t)
	w.makeCA(t)
	w.writeFiles(t)
	return w
}

// startIssuer serves the Workload API that tells egret its own identity and, since it is
// a sidecar, that of its callers.
func (w *world) startIssuer(t *testing.T) {
	t.Helper()
	iss, err := embedded.New(embedded.Options{TrustDomain: spiffeid.RequireTrustDomainFromString("acme.example")})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := iss.Listen(filepath.Join(w.dir, "spiffe", "agent.sock"), embedded.Entry{ID: spiffeid.RequireFromString(idPrefix + "app")})
	if err != nil {
		t.Fatal(err)
	}
	w.issuer, w.workloadAPI = iss, srv.Address()
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { _ = srv.Serve(ctx) })
	t.Cleanup(func() { cancel(); done.Wait() })
}

// makeCA makes the interception CA with the program's own commands.
func (w *world) makeCA(t *testing.T) {
	t.Helper()
	w.egret(t, "ca", "init", "--domains", "slack.com,qase.io,github.com,s3.amazonaws.com,egret.test", "--out", w.file("ca"))
	args := []string{"ca", "issue", "--root", w.file("ca"), "--out", w.file("issuer")}
	for _, host := range destinations() {
		args = append(args, "--host", host)
	}
	w.egret(t, args...)
}

func (w *world) egret(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(os.Getenv(egretVar), args...).CombinedOutput(); err != nil {
		t.Fatalf("egret %s: %v\n%s", strings.Join(args, " "), err, out)
	}
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

// destinations are the hosts of the policy by the name of their Destination.
func destinations() map[string]string {
	return map[string]string{
		"slack": "slack.com", "qase": "api.qase.io", "github": "github.com", "github-api": "api.github.com",
		"s3": "s3.amazonaws.com", "echo": "echo.egret.test", "corporate": "corporate.egret.test",
	}
}

type credentialText struct{ Destinations, Inject string }

type grant struct{ Workload, Destination, Credential, Paths string }

func (w *world) writeFiles(t *testing.T) {
	t.Helper()
	_, port, err := net.SplitHostPort(w.twins.Addr())
	if err != nil {
		t.Fatal(err)
	}
	bearer := `{header: Authorization, value: "Bearer {token}"}`
	w.render(t, "policy.yaml", map[string]any{
		"Workloads":    map[string]string{"app": "sidecar", "mesh": "x509-svid", "ci": "jwt-svid"},
		"Destinations": destinations(), "Twins": w.twins.Addr(), "TwinsPort": port,
		"Credentials": map[string]credentialText{
			"slack-bot":    {"slack", bearer},
			"qase-key":     {"qase", `{header: Token, value: "{token}"}`},
			"github-token": {"github, github-api", `{basic: x-access-token, destinations: [github]}, {header: Authorization, value: "Bearer {token}", destinations: [github-api]}`},
			"echo-token":   {"echo, s3, corporate", bearer},
		},
		"Grants": []grant{
			{"app", "slack", "slack-bot", "/api/auth.test, /api/chat.postMessage"},
			{"app", "qase", "qase-key", "/v1/project"},
			{"app", "github", "github-token", "/acme/**"},
			{"app", "github-api", "github-token", "/user"},
			{"app", "s3", "echo-token", "/reports/**"},
			{"app", "echo", "echo-token", "/public/**, /upload, /bytes/*, /ws, /grpc.reflection.v1.ServerReflection/*, /grpc.reflection.v1alpha.ServerReflection/*, " +
				"/grpc.testing.TestService/EmptyCall, /grpc.testing.TestService/UnaryCall, /grpc.testing.TestService/FullDuplexCall"},
			{"app", "corporate", "echo-token", "/public/**"},
			{"mesh", "qase", "qase-key", "/v1/project"},
			{"ci", "qase", "qase-key", "/v1/project"},
			{"ci", "github", "github-token", "/acme/**"},
		},
	})
	for name, key := range w.keys {
		w.write(t, "secrets/"+name, []byte(key.Reveal()+"\n"))
	}
	w.write(t, "corporate-password", []byte("of the node, not of the client\n"))
}

func (w *world) render(t *testing.T, name string, data any) {
	t.Helper()
	text, err := template.ParseFiles(filepath.Join("testdata", name+".tmpl"))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := text.Execute(&out, data); err != nil {
		t.Fatal(err)
	}
	w.write(t, name, out.Bytes())
}

// writePair writes a certificate chain and its key.
func (w *world) writePair(t *testing.T, name string, c *tls.Certificate) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	var chain []byte
	for _, der := range c.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	w.write(t, name+".pem", chain)
	w.write(t, name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
}
