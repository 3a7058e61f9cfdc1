// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package testbed

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/egret-proxy/egret/internal/secret"
)

// PodPolicy gives a workload of the name and SPIFFE ID a key of its own, secrets/NAME, for
// GET /public/** at the Destination api.
func PodPolicy(name, id string) string {
	return fmt.Sprintf(`---
apiVersion: egret.dev/v1alpha1
kind: Workload
metadata: {name: %[1]s}
spec: {spiffeID: "%[2]s", owner: qa@acme.example, purpose: proves that pods are told apart, environment: test, evidence: [process]}
---
apiVersion: egret.dev/v1alpha1
kind: Credential
metadata: {name: %[1]s}
spec: {owner: qa@acme.example, environment: test, destinations: [api], usableBy: ["%[2]s"], provider: {static: {value: {file: secrets/%[1]s}}}, inject: [{header: Authorization, value: "Bearer {token}"}]}
---
apiVersion: egret.dev/v1alpha1
kind: AccessPolicy
metadata: {name: %[1]s}
spec: {owner: qa@acme.example, workload: %[1]s, destination: api, credential: %[1]s, allow: [{methods: [GET], paths: ["/public/**"]}], expires: 2090-12-31}
`, name, id)
}

// Arrival is one request that reached the SaaS: the pod that its path names, and the pods
// whose keys it carried.
type Arrival struct {
	Host, Path, Pod string
	Keys            []string
}

// PodSaaS notes who calls and with whose keys. /public/POD/slow answers a line every 100 ms
// for as long as it is listened to.
type PodSaaS struct {
	Keys map[string]secret.Secret // by pod

	mu   sync.Mutex
	list []Arrival
}

// ServeHTTP implements http.Handler.
func (s *PodSaaS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	got := Arrival{Host: r.Host, Path: r.URL.Path}
	if parts := strings.Split(r.URL.Path, "/"); len(parts) > 2 {
		got.Pod = parts[2]
	}
	for name, key := range s.Keys {
		for _, values := range r.Header {
			if strings.Contains(strings.Join(values, "\n"), key.Reveal()) {
				got.Keys = append(got.Keys, name)
			}
		}
	}
	s.mu.Lock()
	s.list = append(s.list, got)
	s.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain")
	_, _ = fmt.Fprintln(w, "hello", got.Pod)
	for strings.HasSuffix(r.URL.Path, "/slow") && r.Context().Err() == nil {
		_, _ = fmt.Fprintln(w, "still here")
		_ = http.NewResponseController(w).Flush()
		time.Sleep(100 * time.Millisecond)
	}
}

// Take returns what has arrived since the last time.
func (s *PodSaaS) Take() []Arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.list
	s.list = nil
	return list
}

// HoldOwn checks that each request carried its own pod's key and no other, and that there
// were at least so many.
func (s *PodSaaS) HoldOwn(t testing.TB, least int) {
	t.Helper()
	list := s.Take()
	if len(list) < least {
		t.Errorf("%d requests arrived, want %d", len(list), least)
	}
	for _, a := range list {
		if len(a.Keys) != 1 || a.Keys[0] != a.Pod {
			t.Errorf("a request of %s carried the keys of %v", a.Pod, a.Keys)
			return
		}
	}
}
