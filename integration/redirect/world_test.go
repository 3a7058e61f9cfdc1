// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package redirect

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/egret-proxy/egret/internal/netns"
	"github.com/egret-proxy/egret/internal/saas"
	"github.com/egret-proxy/egret/internal/secret"
)

// egretUID is egret's own user. It needs no name.
const egretUID = 14650

// hosts are the SaaS; each has an address of its own in either family.
func hosts() []string {
	return []string{"slack.com", "api.qase.io", "api.github.com", "echo.egret.test", "evil.egret.test"}
}

// addressOf is where a host is, in a range that is public, so that egret dials it.
func addressOf(host string, v6 bool) string {
	n := slices.Index(hosts(), host) + 10
	if v6 {
		return fmt.Sprintf("2600:5555::%d", n)
	}
	return fmt.Sprintf("45.33.10.%d", n)
}

// world is a pod and what is outside of it, in a namespace each, joined by a veth pair.
type world struct {
	dir      string
	pod, out string // names of the namespaces
	podNS    *netns.NS
	outNS    *netns.NS
	ca       *saas.CA
	keys     map[string]secret.Secret
	arrivals arrivals
	packets  *packets
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to make network namespaces")
	}
	dir, err := os.MkdirTemp("", "egret-redirect-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w := &world{dir: dir, keys: map[string]secret.Secret{}}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w.pod, w.podNS = makeNamespace(t, "pod")
	w.out, w.outNS = makeNamespace(t, "out")
	w.wire(t)
	w.names(t, true, true)
	w.serve(t)
	w.makeCA(t)
	w.writePolicy(t)
	w.packets = watch(t, w.podNS)
	return w
}

// sh runs a program as it is written, without a shell, and fails the test with its words.
func sh(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

func makeNamespace(t *testing.T, name string) (string, *netns.NS) {
	t.Helper()
	full := prefix() + name
	sh(t, "ip", "netns", "add", full)
	t.Cleanup(func() {
		sh(t, "ip", "netns", "del", full)
		_ = os.RemoveAll("/etc/netns/" + full)
		_ = os.Remove("/etc/netns") // where nobody else has anything in it
	})
	sh(t, "ip", "-n", full, "link", "set", "lo", "up")
	n, err := netns.Open("/run/netns/" + full)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return full, n
}

// wire joins the two namespaces and gives the SaaS their addresses.
func (w *world) wire(t *testing.T) {
	t.Helper()
	sh(t, "ip", "-n", w.pod, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", w.out)
	for ns, n := range map[string]int{w.pod: 2, w.out: 1} {
		sh(t, "ip", "-n", ns, "link", "set", "eth0", "up")
		sh(t, "ip", "-n", ns, "addr", "add", fmt.Sprintf("10.77.0.%d/24", n), "dev", "eth0")
		sh(t, "ip", "-n", ns, "addr", "add", fmt.Sprintf("fd77::%d/64", n), "dev", "eth0", "nodad")
	}
	sh(t, "ip", "-n", w.pod, "route", "add", "default", "via", "10.77.0.1")
	sh(t, "ip", "-n", w.pod, "-6", "route", "add", "default", "via", "fd77::1")
	for _, h := range hosts() {
		sh(t, "ip", "-n", w.out, "addr", "add", addressOf(h, false)+"/32", "dev", "lo")
		sh(t, "ip", "-n", w.out, "addr", "add", addressOf(h, true)+"/128", "dev", "lo", "nodad")
	}
}

// names says what resolves where in the pod, for egret and for its callers alike.
func (w *world) names(t *testing.T, v4, v6 bool) {
	t.Helper()
	text := "127.0.0.1 localhost\n::1 localhost\n"
	for _, h := range hosts() {
		if v6 {
			text += addressOf(h, true) + " " + h + "\n"
		}
		if v4 {
			text += addressOf(h, false) + " " + h + "\n"
		}
	}
	dir := "/etc/netns/" + w.pod
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"hosts": text, "resolv.conf": "nameserver 10.77.0.1\noptions timeout:1 attempts:1\n", "nsswitch.conf": "hosts: files\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// arrival is one request that reached a twin.
type arrival struct {
	Host, Path, Proto string
	Ours              bool // it carried the credential that egret holds
	Keys              int  // credentials of egret in any header
}

type arrivals struct {
	mu   sync.Mutex
	list []arrival
}

func (a *arrivals) take() []arrival {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := a.list
	a.list = nil
	return list
}

func (w *world) noting(key secret.Secret, next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		got := arrival{Host: r.Host, Path: r.URL.Path, Proto: r.Proto}
		for _, values := range r.Header {
			for _, v := range values {
				for _, k := range w.keys {
					if strings.Contains(v, k.Reveal()) {
						got.Keys++
					}
				}
				got.Ours = got.Ours || strings.Contains(v, key.Reveal())
			}
		}
		w.arrivals.mu.Lock()
		w.arrivals.list = append(w.arrivals.list, got)
		w.arrivals.mu.Unlock()
		next.ServeHTTP(rw, r)
	})
}

// serve starts the twins in the namespace outside, the attacker's among them.
func (w *world) serve(t *testing.T) {
	t.Helper()
	tokens := saas.NewIssuer(nil)
	for _, name := range []string{"slack", "qase", "github", "echo"} {
		w.keys[name] = tokens.Issue([]string{"chat:write", saas.QaseRead}, 0)
	}
	ca, err := saas.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	w.ca = ca
	l, err := w.outNS.Listen(t.Context(), "tcp", "[::]:443")
	if err != nil {
		t.Fatal(err)
	}
	echo := saas.NewEcho(saas.EchoConfig{Tokens: tokens})
	user := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = io.WriteString(rw, `{"login":"acme-bot","id":1,"type":"Bot"}`)
	})
	host := func(name, key string, h http.Handler) saas.Host {
		return saas.Host{Name: name, Handler: w.noting(w.keys[key], h)}
	}
	twins, err := saas.ListenOn(l, ca,
		host("slack.com", "slack", saas.NewSlack(saas.SlackConfig{Tokens: tokens, Channels: []saas.Channel{{ID: "C0QA000001", Name: "qa"}}})),
		host("api.qase.io", "qase", saas.NewQase(saas.QaseConfig{Tokens: tokens})), host("api.github.com", "github", user),
		host("echo.egret.test", "echo", echo), host("evil.egret.test", "echo", saas.NewEcho(saas.EchoConfig{})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = twins.Close() })
	w.write(t, "twins.pem", ca.PEM())
	w.greet(t)
}

// greet serves a protocol in which the server speaks first, on port 80 of every address.
func (w *world) greet(t *testing.T) {
	t.Helper()
	l, err := w.outNS.Listen(t.Context(), "tcp", "[::]:80")
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "220 hello\r\n")
			_ = c.Close()
		}
	})
	t.Cleanup(func() { _ = l.Close(); done.Wait() })
}

func (w *world) file(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(t *testing.T, name string, text []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(w.file(name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.file(name), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// makeCA makes the interception CA with the program's own commands.
func (w *world) makeCA(t *testing.T) {
	t.Helper()
	egret := os.Getenv(egretVar)
	sh(t, egret, "ca", "init", "--domains", "slack.com,qase.io,github.com,egret.test", "--out", w.file("ca"))
	args := []string{egret, "ca", "issue", "--root", w.file("ca"), "--out", w.file("issuer")}
	for _, h := range hosts() {
		args = append(args, "--host", h)
	}
	sh(t, args...)
	root, err := os.ReadFile(w.file("ca/ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "trust/bundle.pem", root)
	sh(t, "keytool", "-importcert", "-noprompt", "-storepass", "changeit", "-storetype", "PKCS12", "-alias", "egret",
		"-keystore", w.file("trust/trust.p12"), "-file", w.file("ca/ca.pem"))
}

const policyText = `apiVersion: egret.dev/v1alpha1
kind: Workload
metadata: {name: app}
spec: {spiffeID: "spiffe://acme.example/app", owner: qa@acme.example, purpose: proves that a client works, environment: test, evidence: [sidecar]}
`

// writePolicy lets the pod call some paths of every host with a credential, and of the
// attacker's host without.
func (w *world) writePolicy(t *testing.T) {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(policyText)
	for _, d := range []struct{ name, host, inject, paths string }{
		{"slack", "slack.com", `{header: Authorization, value: "Bearer {token}"}`, "/api/auth.test"},
		{"qase", "api.qase.io", `{header: Token, value: "{token}"}`, "/v1/project"},
		{"github", "api.github.com", `{header: Authorization, value: "Bearer {token}"}`, "/user"},
		{"echo", "echo.egret.test", `{header: Authorization, value: "Bearer {token}"}`, "/public/**, /ws, /grpc.testing.TestService/UnaryCall, /grpc.testing.TestService/FullDuplexCall, /grpc.testing.TestService/EmptyCall"},
		{"evil", "evil.egret.test", "", "/**"},
	} {
		credential := "none"
		fmt.Fprintf(&b, "---\napiVersion: egret.dev/v1alpha1\nkind: Destination\nmetadata: {name: %s}\nspec: {hosts: [%s], tls: {roots: twins.pem}}\n", d.name, d.host)
		if d.inject != "" {
			credential = d.name
			w.write(t, "secrets/"+d.name, []byte(w.keys[d.name].Reveal()+"\n"))
			fmt.Fprintf(&b, "---\napiVersion: egret.dev/v1alpha1\nkind: Credential\nmetadata: {name: %s}\nspec: {owner: qa@acme.example, environment: test, destinations: [%[1]s], usableBy: [\"spiffe://acme.example/app\"], provider: {static: {value: {file: secrets/%[1]s}}}, inject: [%s]}\n", d.name, d.inject)
		}
		fmt.Fprintf(&b, "---\napiVersion: egret.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {name: app-%s}\nspec: {owner: qa@acme.example, workload: app, destination: %[1]s, credential: %s, allow: [{methods: [GET, POST], paths: [%s]}], expires: 2090-12-31}\n", d.name, credential, d.paths)
	}
	w.write(t, "policy.yaml", b.Bytes())
}

// inPod makes a command that runs in the pod with its names.
func (w *world) inPod(argv ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", w.pod}, argv...)...)
}

// result is how a client ended.
type result struct {
	code int
	out  string
}

// call runs a client in the pod as root, who has no idea of egret but its CA.
func (w *world) call(t *testing.T, argv ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", w.pod}, argv...)...)
	bundle := w.file("trust/bundle.pem")
	cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+bundle, "CURL_CA_BUNDLE="+bundle, "REQUESTS_CA_BUNDLE="+bundle, "NODE_EXTRA_CA_CERTS="+bundle,
		"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH="+bundle, "HOME="+w.dir,
		"JAVA_TOOL_OPTIONS=-XX:TieredStopAtLevel=1 -Djavax.net.ssl.trustStore="+w.file("trust/trust.p12")+" -Djavax.net.ssl.trustStorePassword=changeit")
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Errorf("%s did not end", strings.Join(argv, " "))
	}
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), string(out)}
}

// dial connects from the pod, as a program of root's.
func (w *world) dial(ctx context.Context, address string) (net.Conn, error) {
	return w.podNS.Dial(ctx, "tcp", address)
}
