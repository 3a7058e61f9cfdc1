// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Host is the name of the SaaS whose requests are measured, and Area the part of its
// API that the measured workload may use. GRPCHost serves gRPC, and TunnelHost is one
// whose bytes are passed on unread.
const (
	Host       = "api-00." + domain
	GRPCHost   = "grpc." + domain
	TunnelHost = "tunnel." + domain
	Area       = "/v1/area-00/"
)

const (
	domain  = "bench.example"
	caller  = "spiffe://bench.example/ns/load/sa/job-00000"
	perJob  = 10 // policies of each workload
	targets = 5  // destinations that they are spread over
)

// node is what egret.yaml needs to know.
type node struct {
	process, sidecar, metrics string // addresses
	origin, grpc              string // where the destinations really are
	shared                    string // folder with the credential and the origin's CA
}

// yaml is the egret.yaml of the benchmark: what a node with several workloads would have,
// with records on disk and metrics on. Nothing is switched off or tuned, but that one
// workload may have as many connections as the load makes.
//
// egret itself has an identity of its own, so that callers of the first listener are
// known by the entry that their process matches. hybrid and rootCgroup state what holds
// on any machine of a benchmark: nobody shares it but this user.
func (n node) yaml() string {
	return fmt.Sprintf(`listeners:
  - {name: node, address: %q, kind: forward, identify: {process: {attestor: embedded, hybrid: true, rootCgroup: true}}}
  - {name: local, address: %q, kind: forward, identify: {sidecar: {sameUser: true}}}
spiffe:
  trustDomains: [%s]
  embedded:
    spiffeID: %q
    entries: [{spiffeID: %q, uids: [%d]}]
metrics: {address: %q}
certs: {issuer: {file: [{chain: issuer/chain.pem, key: issuer/key.pem}]}}
policy: {paths: [{path: policy.yaml}]}
audit: {file: audit.jsonl}
limits: {connections: 12000, connectionsPerWorkload: 12000}
log: {level: warn}
`, n.process, n.sidecar, domain, own, caller, os.Getuid(), n.metrics)
}

// own is egret's identity, and so that of the sidecar listener's callers.
const own = "spiffe://bench.example/ns/load/sa/self"

// policy writes the governed objects: the wanted number of access policies, ten to a
// workload, over five destinations and distinct paths. The measured workload is the
// first of them and has its ten like every other. What the other loads need comes on
// top: the sidecar's workload, gRPC, and a destination that is not intercepted.
func (n node) policy(grants int) string {
	var b strings.Builder
	intercepted := fmt.Sprintf("tls: {roots: %q}", filepath.Join(n.shared, "origin-ca.pem"))
	for i := range targets {
		fmt.Fprintf(&b, destination, fmt.Sprintf("api-%02d", i), fmt.Sprintf("api-%02d.%s", i, domain), n.origin, intercepted)
	}
	fmt.Fprintf(&b, destination, "grpc", GRPCHost, n.grpc, intercepted)
	fmt.Fprintf(&b, destination, "tunnel", TunnelHost, n.origin, "intercept: never")
	fmt.Fprintf(&b, credential, filepath.Join(n.shared, "token"))
	for i := range grants {
		job := i / perJob
		if i%perJob == 0 {
			fmt.Fprintf(&b, workload, fmt.Sprintf("job-%05d", job))
		}
		fmt.Fprintf(&b, grant, fmt.Sprintf("grant-%05d", i), fmt.Sprintf("job-%05d", job), fmt.Sprintf("api-%02d", i%targets), fmt.Sprintf("/v1/area-%02d/**", i%perJob))
	}
	fmt.Fprintf(&b, workload, "self")
	fmt.Fprintf(&b, grant, "self", "self", "api-00", Area+"**")
	fmt.Fprintf(&b, grant, "grpc", "job-00000", "grpc", "/bench.Echo/**")
	b.WriteString(tunnel)
	return b.String()
}

const destination = `---
apiVersion: egret.dev/v1alpha1
kind: Destination
metadata: {name: %s}
spec:
  hosts: [%s]
  dial: %q
  allowPrivate: [127.0.0.0/8]
  %s
`

const credential = `---
apiVersion: egret.dev/v1alpha1
kind: Credential
metadata: {name: api-key}
spec:
  owner: bench@bench.example
  environment: production
  destinations: [api-00, api-01, api-02, api-03, api-04, grpc]
  usableBy: ["spiffe://bench.example/ns/load/sa/*"]
  provider: {static: {value: {file: %q}}}
  inject: [{header: Authorization, value: "Bearer {token}"}]
`

const workload = `---
apiVersion: egret.dev/v1alpha1
kind: Workload
metadata: {name: %[1]s}
spec:
  spiffeID: spiffe://bench.example/ns/load/sa/%[1]s
  owner: bench@bench.example
  purpose: is one of many that a node's policy names
  environment: production
`

const grant = `---
apiVersion: egret.dev/v1alpha1
kind: AccessPolicy
metadata: {name: %s}
spec:
  owner: bench@bench.example
  workload: %s
  destination: %s
  credential: api-key
  allow: [{methods: [GET, POST], paths: [%q]}]
  expires: 2099-12-31
`

// tunnel lets the measured workload through without a credential.
const tunnel = `---
apiVersion: egret.dev/v1alpha1
kind: AccessPolicy
metadata: {name: tunnel}
spec:
  owner: bench@bench.example
  workload: job-00000
  destination: tunnel
  expires: 2099-12-31
`
