// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package spire

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/identity/kernel"
	"github.com/egret-proxy/egret/identity/process"
	"github.com/egret-proxy/egret/identity/spire"
)

// kubelet answers /pods over TLS to whoever has its token, as a node's kubelet does: all
// that SPIRE's k8s attestor asks of one.
type kubelet struct {
	server *httptest.Server
	mu     sync.Mutex
	pods   map[string]map[string]any // by UID
}

const kubeletToken = "of-the-agents-service-account"

func newKubelet(t *testing.T) *kubelet {
	t.Helper()
	k := &kubelet{pods: map[string]map[string]any{}}
	k.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/pods" || r.Header.Get("Authorization") != "Bearer "+kubeletToken {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		items := []any{}
		for _, p := range k.pods {
			items = append(items, p)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "PodList", "apiVersion": "v1", "items": items})
	}))
	t.Cleanup(k.server.Close)
	return k
}

func (k *kubelet) port() int { return k.server.Listener.Addr().(*net.TCPAddr).Port }

// add has the pod of a service account of the namespace qa run on this node.
func (k *kubelet) add(uid, account, container string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pods[uid] = map[string]any{
		"metadata": map[string]any{"name": account + "-0", "namespace": "qa", "uid": uid},
		"spec":     map[string]any{"serviceAccountName": account, "nodeName": "node1"},
		"status": map[string]any{"phase": "Running", "containerStatuses": []any{map[string]any{
			"name": "app", "containerID": "containerd://" + container, "image": "app:1", "imageID": "app@sha256:1",
			"state": map[string]any{"running": map[string]any{}},
		}}},
	}
}

func (k *kubelet) remove(uid string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.pods, uid)
}

const unixAttestor = `  WorkloadAttestor "unix"`

const k8sAttestor = `  WorkloadAttestor "k8s" { plugin_data {
    kubelet_secure_port = "%d"
    kubelet_ca_path = "%s"
    token_path = "%s"
    experimental { broker {
      access_policy = "permissive"
      brokers = [ { id = "spiffe://example.org/egret"  pod_reference_scope = "agent_node" } ]
    } }
  } }
`

const (
	pidType = `{ type_url = "type.googleapis.com/spiffe.broker.WorkloadPIDReference" }`
	podType = `{ type_url = "type.googleapis.com/spiffe.broker.KubernetesObjectReference" }`
)

func allowPods(conf string) string { return strings.Replace(conf, pidType, pidType+", "+podType, 1) }

// podWorld is a world whose agent asks the kubelet about pods.
func podWorld(t *testing.T) (*world, *kubelet) {
	t.Helper()
	k, dir := newKubelet(t), t.TempDir()
	ca, token := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "token")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.server.Certificate().Raw})
	if err := errors.Join(os.WriteFile(ca, cert, 0o600), os.WriteFile(token, []byte(kubeletToken), 0o600)); err != nil {
		t.Fatal(err)
	}
	return newWorldWith(t, func(conf string) string {
		return strings.Replace(allowPods(conf), unixAttestor, fmt.Sprintf(k8sAttestor, k.port(), ca, token)+unixAttestor, 1)
	}), k
}

const (
	nightlyPod = "0f4c1b52-6f1a-4b7e-9d0c-1a2b3c4d5e6f"
	weeklyPod  = "1a2b3c4d-6f1a-4b7e-9d0c-0f4c1b526f1a"
)

func container(n byte) string { return strings.Repeat(string([]byte{n}), 64) }

// podGroup makes the group of a container as a kubelet does, below a group of the test's.
func podGroup(t *testing.T, uid, container string) string {
	t.Helper()
	dir := group(t, uid[:4]+"-kubepods.slice")
	for _, name := range []string{"pod" + uid, container} {
		dir = filepath.Join(dir, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		made := dir
		t.Cleanup(func() {
			for range 200 {
				if os.Remove(made) == nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	return dir
}

// TestPodReferences: callers in pods by the UID of their pod, which the agent looks up
// at the kubelet itself. What it tells then is of the pod and not of the container.
func TestPodReferences(t *testing.T) {
	w, k := podWorld(t)
	k.add(nightlyPod, "nightly", container('a'))
	k.add(weeklyPod, "weekly", container('b'))
	w.entry(alice, "k8s:ns:qa", "k8s:sa:nightly")
	w.entry(bob, "k8s:ns:qa", "k8s:container-name:app")
	source := w.source()
	byPod, byPID := w.brokerBy(source, spire.BrokerOptions{Pods: true}), w.broker(source)
	nightly, weekly := podGroup(t, nightlyPod, container('a')), podGroup(t, weeklyPod, container('b'))
	l := listen(t, "tcp")

	first := run(t, 47201, nightly)
	c := known(t, resolver(t, byPod, nil), first, l, alice)
	ownSVIDs(t, source, c, alice)
	known(t, resolver(t, byPod, nil), first, listen(t, "unix"), alice)

	t.Run("container selectors", func(t *testing.T) {
		p := run(t, 47201, weekly)
		if id, err := idOf(resolve(diag(t), resolver(t, byPod, nil), p.connect(l))); !errors.Is(err, identity.ErrRevoked) {
			t.Errorf("by pod: %q, %v; a pod reference tells of no container", id, err)
		}
		known(t, resolver(t, byPID, nil), p, l, bob)
	})
	t.Run("no pod", func(t *testing.T) {
		p := run(t, 47201, group(t, "no-pod"))
		if id, err := idOf(resolve(diag(t), resolver(t, byPod, nil), p.connect(l))); !errors.Is(err, identity.ErrUnknown) {
			t.Errorf("%q, %v", id, err)
		}
	})
	t.Run("a pod of a user's making", func(t *testing.T) {
		mine := group(t, "delegated")
		if err := os.Chown(mine, 47202, 47202); err != nil {
			t.Fatal(err)
		}
		forged := filepath.Join(mine, "kubepods")
		p := run(t, 47202, mine)
		for _, name := range []string{"", "pod" + nightlyPod, container('a')} {
			forged = filepath.Join(forged, name)
			made := forged
			if err := p.tell("mkdir " + made); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Remove(made) })
		}
		p.stop()
		p = run(t, 47202, forged)
		if id, err := idOf(resolve(diag(t), resolver(t, byPod, nil), p.connect(l))); !errors.Is(err, identity.ErrUnknown) {
			t.Errorf("%q, %v", id, err)
		}
		p.stop()
	})
	t.Run("pod is gone", func(t *testing.T) {
		k.remove(nightlyPod)
		time.Sleep(time.Second) // for as long the agent remembers the kubelet's answer
		p := run(t, 47202, nightly)
		if id, err := idOf(resolve(diag(t), resolver(t, byPod, nil), p.connect(l))); !errors.Is(err, identity.ErrRevoked) {
			t.Errorf("%q, %v", id, err)
		}
	})
	t.Run("kubelet is gone", func(t *testing.T) {
		k.server.Close()
		time.Sleep(time.Second)
		p := run(t, 47203, nightly)
		if id, err := idOf(resolve(diag(t), resolver(t, byPod, nil), p.connect(l))); !errors.Is(err, identity.ErrUnavailable) {
			t.Errorf("%q, %v", id, err)
		}
		if w, err := c.Workload(); err != nil || w.ID != alice {
			t.Errorf("who was known is %q, %v", w.ID, err)
		}
	})
}

// TestPodsThroughEgret: the setting, in the program itself, and what doctor says of it.
func TestPodsThroughEgret(t *testing.T) {
	w, k := podWorld(t)
	k.add(nightlyPod, "nightly", container('a'))
	w.entry(alice, "k8s:ns:qa", "k8s:sa:nightly")
	s := w.egret(setup{listeners: "  - {name: pods, address: \"127.0.0.1:0\", kind: forward, identify: {process: {attestor: broker, reference: pod, hybrid: true}}}\n"}).await()
	p := run(t, 47201, podGroup(t, nightlyPod, container('a')))
	s.becomes(p, "pods", "200 ")
	if got := s.get(run(t, 47201, group(t, "pods-none")), "pods"); !strings.Contains(got, "identity/no_evidence") {
		t.Errorf("in no pod: %s", got)
	}
	got := s.doctor("--pid", fmt.Sprint(p.pid))
	if !got.has("SPIFFE broker API by pod", "ok", "KubernetesObjectReference", "") || !got.has("caller at pods", "ok", "says that this is "+alice.String(), "") {
		t.Errorf("doctor: %+v", got)
	}
}

// TestPodReferencesWithoutKubernetes: what an agent says that cannot attest a pod, or that
// does not let egret ask about one. Nobody is anybody.
func TestPodReferencesWithoutKubernetes(t *testing.T) {
	for name, tt := range map[string]struct {
		edit func(string) string
		want error
		hint string
	}{
		"no attestor of pods": {allowPods, identity.ErrInvalid, "WorkloadAttestor"},
		"not allowed":         {func(conf string) string { return conf }, identity.ErrRevoked, "experimental.broker.brokers"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorldWith(t, tt.edit)
			w.entry(alice, uidSelector(aliceUID))
			b := w.brokerBy(w.source(), spire.BrokerOptions{Pods: true})
			p := run(t, aliceUID, podGroup(t, nightlyPod, container('a')))
			if id, err := idOf(resolve(diag(t), resolver(t, b, nil), p.connect(listen(t, "tcp")))); !errors.Is(err, tt.want) {
				t.Errorf("%q, %v; want %v", id, err, tt.want)
			}
			self, err := kernel.Open(os.Getpid())
			if err != nil {
				t.Fatal(err)
			}
			defer self.Close()
			err = b.Authorized(t.Context(), process.Reference{Process: self})
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.hint) {
				t.Errorf("authorized: %v; want %v, %q", err, tt.want, tt.hint)
			}
			p.stop()
		})
	}
}
