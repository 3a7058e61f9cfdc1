// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"

	api "github.com/egret-proxy/egret/api/v1alpha1"
	"github.com/egret-proxy/egret/credential"
)

// TestProgramsThatTheNodeAllows: by their names alone, whatever their arguments.
func TestProgramsThatTheNodeAllows(t *testing.T) {
	node, _ := policyFolder(t, "testdata/bad/policy-exec-not-allowed.yaml")
	node.Secrets = Secrets{AllowEnv: true, AllowPrograms: []string{"/usr/bin/true", "/bin/sh"}}
	if _, faults := Load(node, loadOptions()); len(faults) > 0 {
		t.Error(faults)
	}
	node.Secrets.AllowPrograms = []string{"/bin", "/bin/sh -c"}
	if _, faults := Load(node, loadOptions()); !strings.Contains(faults.Error(), "must be a program that the node allows") {
		t.Errorf("%v", faults)
	}
}

// builtAt builds a Kubernetes provider and returns where it is reached.
func builtAt(t *testing.T, p api.KubernetesProvider, env map[string]string) (string, error) {
	t.Helper()
	at := make(chan string, 8)
	opt := BuildOptions{
		Dial: func(hostPort string, _ []netip.Prefix) DialFunc {
			return func(_ context.Context, _, address string) (net.Conn, error) {
				at <- address + " at " + hostPort
				return nil, net.ErrClosed
			}
		},
		LookupEnv: func(n string) (string, bool) { v, ok := env[n]; return v, ok },
	}
	c := &api.CompiledCredential{Provider: api.Provider{Kubernetes: &p}}
	made, owned, err := opt.provider(c)
	if err != nil {
		return "", err
	}
	defer func() { _ = credential.Spec{Provider: made, Owned: owned}.Close() }()
	b := &builder{opt: opt, c: c}
	cluster, err := b.cluster(&p)
	check(t, err)
	if _, err := cluster.Dial(t.Context(), "tcp", strings.TrimPrefix(cluster.Server, "https://")+":443"); err == nil {
		t.Error("connected")
	}
	return <-at + " by " + cluster.RootsFile + " as " + cluster.TokenFile, nil
}

func TestKubernetesIsReachedAsThePodIsTold(t *testing.T) {
	secret := api.KubernetesProvider{Secret: &api.KubernetesSecret{Namespace: "shop", Name: "db", Key: "k"}}
	pod := map[string]string{"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
	const account = "/var/run/secrets/kubernetes.io/serviceaccount/"
	got, err := builtAt(t, secret, pod)
	if want := "kubernetes.default.svc:443 at 10.96.0.1:443 by " + account + "ca.crt as " + account + "token"; err != nil || got != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	if _, err := builtAt(t, secret, nil); err == nil || !strings.Contains(err.Error(), "egret runs in no pod") {
		t.Errorf("%v", err)
	}
	secret.TokenFile = "/run/own-token"
	if got, err := builtAt(t, secret, pod); err != nil || !strings.HasSuffix(got, " as /run/own-token") {
		t.Errorf("%q, %v", got, err)
	}
}
