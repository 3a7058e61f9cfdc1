// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package redirect holds the redirect example to the loader.
package redirect

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/egret-proxy/egret/certs"
	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/examples/local"
)

// The settings load in a pod, with a real CA and the policy of the local example, and
// are refused where the pod shares the host's network.
func TestSettingsLoad(t *testing.T) {
	dir := lay(t)
	pod := config.Env{GOOS: "linux", HostNetwork: func() bool { return false }, Getenv: func(k string) string {
		return map[string]string{"KUBERNETES_SERVICE_HOST": "10.96.0.1"}[k]
	}}
	node, faults := config.LoadNode(filepath.Join(dir, "egret.yaml"), pod)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	issuer, err := certs.NewFileIssuer(certs.IssuerFile{Chain: node.Certs.Issuer.File[0].Chain, Key: node.Certs.Issuer.File[0].Key})
	if err != nil {
		t.Fatal(err)
	}
	if _, faults := config.Load(node, config.LoadOptions{Permits: issuer.Permits, Authorities: issuer.Authorities(), Env: pod}); len(faults) > 0 {
		t.Fatal(faults)
	}
	pod.HostNetwork = func() bool { return true }
	if _, faults := config.LoadNode(filepath.Join(dir, "egret.yaml"), pod); len(faults) != 2 || faults[0].Path != "listeners[0].identify.sidecar" {
		t.Errorf("in the host's network: %v", faults)
	}
}

// lay puts the example together as the pod's volumes do.
func lay(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	files, err := local.Render(local.Overlay{})
	if err != nil {
		t.Fatal(err)
	}
	if files["egret.yaml"], err = os.ReadFile("egret.yaml"); err != nil {
		t.Fatal(err)
	}
	files["secrets/qase-token"] = []byte("key\n")
	files["secrets/pagerduty-client-secret"] = []byte("secret\n")
	root, err := certs.NewRoot(certs.RootOptions{Organization: "Acme", Domains: []string{"slack.com", "qase.io", "pagerduty.com"}})
	if err != nil {
		t.Fatal(err)
	}
	ca, err := root.Intermediate(certs.IntermediateOptions{Hosts: []string{"slack.com", "api.qase.io", "api.pagerduty.com"}})
	if err != nil {
		t.Fatal(err)
	}
	files["issuer/chain.pem"] = ca.EncodeChain()
	if files["issuer/key.pem"], err = ca.EncodeKey(); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
