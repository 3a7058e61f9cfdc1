// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/egret-proxy/egret/credential"
)

// TestOwnTokenIsReadAnew: the kubelet replaces it long before the old one ends.
func TestOwnTokenIsReadAnew(t *testing.T) {
	t.Parallel()
	a := newAPIServer(t)
	var file string
	m := a.minter(func(c *TokenConfig) { file = c.Cluster.TokenFile })
	if _, err := get(t, m); err != nil {
		t.Fatal(err)
	}
	a.set(func() { a.own = "next" })
	_, err := get(t, m)
	if e := wantKind(t, err, credential.Refused); !strings.Contains(e.Error(), "egret's own token") {
		t.Errorf("%v", e)
	}
	write(t, file, "next")
	if _, err := get(t, m); err != nil {
		t.Error(err)
	}
}

// TestRootsFileIsReadAnew: a cluster's CA is replaced while pods run.
func TestRootsFileIsReadAnew(t *testing.T) {
	t.Parallel()
	a := newAPIServer(t)
	file := filepath.Join(t.TempDir(), "ca.crt")
	m := a.minter(func(c *TokenConfig) { c.Cluster.Roots, c.Cluster.RootsFile = nil, file })
	_, err := get(t, m)
	wantKind(t, err, credential.Unreachable)
	for _, bad := range []string{"", "no PEM", strings.Repeat("x", maxRoots+1)} {
		write(t, file, bad)
		_, err = get(t, m)
		wantKind(t, err, credential.Unreachable)
	}
	write(t, file, a.certPEM())
	for range 2 {
		if _, err := get(t, m); err != nil {
			t.Error(err)
		}
	}
	first, _ := m.client.client()
	if again, _ := m.client.client(); again != first {
		t.Error("a client for each call")
	}
	write(t, file, string(otherCA))
	_, err = get(t, m)
	wantKind(t, err, credential.Unreachable)
}

// otherCA is a certificate that has signed nothing here.
var otherCA = []byte(`-----BEGIN CERTIFICATE-----
MIIBdzCCAR2gAwIBAgIUAk0gGxQm7vJk0c9yk2l3dT5bq1wwCgYIKoZIzj0EAwIw
-----END CERTIFICATE-----
`)

func TestMUST_T9_RedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	var reached atomic.Int32
	other := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer other.Close()
	for _, code := range []int{301, 302, 303, 307, 308} {
		a := newAPIServer(t)
		a.set(func() {
			a.fault = func(w http.ResponseWriter, r *http.Request) bool {
				http.Redirect(w, r, other.URL, code)
				return true
			}
		})
		_, err := get(t, a.minter(func(c *TokenConfig) { c.Cluster.Roots.AddCert(other.Certificate()) }))
		wantKind(t, err, credential.NotMinted)
	}
	if reached.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

func TestMUST_T10_TheServerIsVerified(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	a := newAPIServer(t)
	for name, change := range map[string]func(*Cluster){
		"unknown root": func(c *Cluster) { c.Roots = x509.NewCertPool() },
		"wrong name": func(c *Cluster) {
			u, _ := url.Parse(a.URL)
			c.Server = "https://localhost:" + u.Port() // httptest's certificate is for 127.0.0.1 and example.com
		},
	} {
		_, err := get(t, a.minter(func(c *TokenConfig) { change(&c.Cluster) }))
		wantKind(t, err, credential.Unreachable)
		if a.calls.mints.Load() != 0 {
			t.Errorf("%s: the server was asked", name)
		}
	}
	if _, err := get(t, a.minter()); err != nil {
		t.Error(err)
	}
}

func TestPodAddress(t *testing.T) {
	env := map[string]string{"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
	lookup := func(n string) (string, bool) { v, ok := env[n]; return v, ok }
	if got, err := PodAddress(lookup); err != nil || got != "[fd00::1]:443" {
		t.Errorf("%q, %v", got, err)
	}
	delete(env, "KUBERNETES_SERVICE_PORT")
	if _, err := PodAddress(lookup); err == nil || !strings.Contains(err.Error(), "runs in no pod") {
		t.Errorf("%v", err)
	}
}
