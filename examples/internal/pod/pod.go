// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package pod is the pod that tests hold the examples with manifests to. Tests only.
package pod

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/egret-proxy/egret/certs"
	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/examples/local"
)

// Env is a machine in a Kubernetes cluster, with a network of its own or the host's.
func Env(hostNetwork bool) config.Env {
	return config.Env{GOOS: "linux", HostNetwork: func() bool { return hostNetwork }, Getenv: func(k string) string {
		return map[string]string{"KUBERNETES_SERVICE_HOST": "10.96.0.1"}[k]
	}}
}

// Load loads the settings and the policy of a folder that Lay made, and ends the test
// where they have a fault.
func Load(t testing.TB, dir string, env config.Env) *config.Node {
	t.Helper()
	node, faults := config.LoadNode(filepath.Join(dir, "egret.yaml"), env)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	file := node.Certs.Issuer.File[0]
	issuer, err := certs.NewFileIssuer(certs.IssuerFile{Chain: file.Chain, Key: file.Key})
	if err != nil {
		t.Fatal(err)
	}
	if _, faults := config.Load(node, config.LoadOptions{Permits: issuer.Permits, Authorities: issuer.Authorities(), Env: env}); len(faults) > 0 {
		t.Fatal(faults)
	}
	return node
}

// Lay puts the example of the folder that the test runs in together, as the volumes of its
// manifest do: its egret.yaml, the policy of the local example, secrets and a real CA.
func Lay(t testing.TB) string {
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
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, text, 0o440); err != nil { //nolint:gosec // as the manifests mount them
			t.Fatal(err)
		}
	}
	return dir
}

// Mounted holds a manifest, and the kustomization.yaml beside it, to what Lay has laid:
// every file is made part of a ConfigMap or Secret, and mounted where it is laid.
func Mounted(t testing.TB, dir, manifest string) {
	t.Helper()
	texts := map[string]string{}
	for _, name := range []string{manifest, "kustomization.yaml"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = string(text)
	}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || name == "egret.yaml" { // that has no path of its own
			return err
		}
		if !strings.Contains(texts[manifest], "{key: "+path.Base(name)+", path: "+name+"}\n") {
			t.Errorf("%s does not mount %s", manifest, name)
		}
		if !strings.Contains(texts["kustomization.yaml"], name) {
			t.Errorf("kustomization.yaml does not take %s", name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
