// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/egret-proxy/egret/certs"
)

const answer = "hello from behind egret"

// interceptor is the least that a client needs: it answers a CONNECT to slack.com with
// a leaf of a real Authority and serves one request inside.
type interceptor struct {
	authority *certs.Authority
	listener  net.Listener
	wg        sync.WaitGroup
}

func newInterceptor(t *testing.T) (*interceptor, *certs.EphemeralIssuer) {
	t.Helper()
	issuer, err := certs.NewEphemeralIssuer(certs.EphemeralOptions{Hosts: []string{"slack.com"}})
	if err != nil {
		t.Fatal(err)
	}
	authority, err := certs.NewAuthority(certs.AuthorityOptions{Issuer: issuer, Listed: func(h string) bool { return h == "slack.com" }})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	i := &interceptor{authority: authority, listener: listener}
	i.wg.Go(i.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		i.wg.Wait()
		authority.Close()
	})
	return i, issuer
}

func (i *interceptor) accept() {
	for {
		conn, err := i.listener.Accept()
		if err != nil {
			return
		}
		i.wg.Go(func() { i.serve(conn) })
	}
}

func (i *interceptor) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil || req.Method != http.MethodConnect || req.Host != "slack.com:443" {
		return
	}
	if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	inner := tls.Server(conn, &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return i.authority.Leaf(h.Context(), h.ServerName)
	}})
	defer func() { _ = inner.Close() }()
	if _, err := http.ReadRequest(bufio.NewReader(inner)); err != nil {
		return
	}
	_, _ = io.WriteString(inner, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"+answer+"\n")
}

const pythonGet = `import urllib.request; print(urllib.request.urlopen("https://slack.com/").read().decode())`

const pythonRequests = `
try:
    import requests
except ImportError:
    print("skip")
else:
    print(requests.get("https://slack.com/").text)`

const javaGet = `public class Get { public static void main(String[] a) throws Exception {
  System.out.println(new String(new java.net.URL("https://slack.com/").openStream().readAllBytes())); } }`

// Real clients, told nothing but the environment, reach https://slack.com through the
// proxy and accept its certificate.
func TestClientsFollowEnvironment(t *testing.T) {
	java := filepath.Join(t.TempDir(), "Get.java")
	if err := os.WriteFile(java, []byte(javaGet), 0o644); err != nil {
		t.Fatal(err)
	}
	env := clientEnv(t)
	tests := []struct {
		name string
		args []string
		slow bool
	}{
		{"curl", []string{"curl", "-sS", "https://slack.com/"}, false},
		{"urllib", []string{"/usr/bin/python3", "-c", pythonGet}, false},
		{"requests", []string{"/usr/bin/python3", "-c", pythonRequests}, false},
		{"java", []string{"java", "-XX:TieredStopAtLevel=1", "-Xshare:auto", java}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := exec.LookPath(tt.args[0]); err != nil || tt.slow && testing.Short() {
				t.Skip("no such client here, or -short")
			}
			var out, errs strings.Builder
			code, err := Run(Command{Args: tt.args, Env: env, Stdout: &out, Stderr: &errs})
			if strings.TrimSpace(out.String()) == "skip" {
				t.Skip("the client's library is not here")
			}
			if err != nil || code != 0 || !strings.Contains(out.String(), answer) {
				t.Errorf("exit %d, %v\nout: %s\nerr: %s", code, err, out.String(), errs.String())
			}
		})
	}
}

// Without our bundle the same client refuses, so the test above proves something.
func TestClientWithoutTrustRefuses(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("no curl here")
	}
	env := append(clientEnv(t), "SSL_CERT_FILE=/dev/null", "CURL_CA_BUNDLE=/dev/null")
	code, err := Run(Command{Args: []string{"curl", "-sS", "https://slack.com/"}, Env: env})
	if err != nil || code == 0 {
		t.Errorf("exit %d, %v", code, err)
	}
}

func clientEnv(t *testing.T) []string {
	t.Helper()
	proxy, issuer := newInterceptor(t)
	system, _, err := ParentTrust(nil)
	if err != nil {
		t.Skip(err)
	}
	folder, err := WriteTrust(t.TempDir(), Trust{System: system, Roots: issuer.Roots()})
	if err != nil {
		t.Fatal(err)
	}
	url, err := ParseProxy("http://" + proxy.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	env, _ := Env{Parent: os.Environ(), Proxy: url, Folder: folder}.Environ()
	return env
}
