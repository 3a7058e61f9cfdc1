// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"fmt"
	"strings"
)

// Host is the name of the SaaS whose requests are measured, and Area the part of its
// API that the measured workload may use.
const (
	Host = "api-00." + domain
	Area = "/v1/area-00/"
)

const (
	domain  = "bench.example"
	caller  = "spiffe://bench.example/ns/load/sa/job-00000"
	perJob  = 10 // policies of each workload
	targets = 5  // destinations that they are spread over
)

// node is what egret.yaml needs to know.
type node struct {
	proxy, metrics string // addresses
	origin         string // where the destinations really are
}

// yaml is the egret.yaml of the benchmark: what a laptop or a CI runner would have, with
// records on disk and metrics on. Nothing is switched off or tuned.
func (n node) yaml() string {
	return fmt.Sprintf(`listeners:
  - {name: local, address: %q, kind: forward, identify: {sidecar: {sameUser: true}}}
spiffe:
  trustDomains: [%s]
  embedded: {spiffeID: %q}
metrics: {address: %q}
certs: {issuer: {file: [{chain: issuer/chain.pem, key: issuer/key.pem}]}}
policy: {paths: [{path: policy.yaml}]}
audit: {file: audit.jsonl}
log: {level: warn}
`, n.proxy, domain, caller, n.metrics)
}

// policy writes the governed objects: the wanted number of access policies, ten to a
// workload, over five destinations and distinct paths. The measured workload is the
// first of them and has its ten like every other.
func (n node) policy(grants int) string {
	var b strings.Builder
	for i := range targets {
		fmt.Fprintf(&b, `---
apiVersion: egret.dev/v1alpha1
kind: Destination
metadata: {name: api-%02d}
spec:
  hosts: [api-%02d.%s]
  dial: %q
  tls: {roots: origin-ca.pem}
  allowPrivate: [127.0.0.0/8]
`, i, i, domain, n.origin)
	}
	b.WriteString(credential)
	for i := range grants {
		job := i / perJob
		if i%perJob == 0 {
			fmt.Fprintf(&b, workload, job, job)
		}
		fmt.Fprintf(&b, grant, i, job, i%targets, i%perJob)
	}
	return b.String()
}

const credential = `---
apiVersion: egret.dev/v1alpha1
kind: Credential
metadata: {name: api-key}
spec:
  owner: bench@bench.example
  environment: production
  destinations: [api-00, api-01, api-02, api-03, api-04]
  usableBy: ["spiffe://bench.example/ns/load/sa/*"]
  provider: {static: {value: {file: token}}}
  inject: [{header: Authorization, value: "Bearer {token}"}]
`

const workload = `---
apiVersion: egret.dev/v1alpha1
kind: Workload
metadata: {name: job-%05d}
spec:
  spiffeID: spiffe://bench.example/ns/load/sa/job-%05d
  owner: bench@bench.example
  purpose: is one of many that a node's policy names
  environment: production
`

const grant = `---
apiVersion: egret.dev/v1alpha1
kind: AccessPolicy
metadata: {name: grant-%05d}
spec:
  owner: bench@bench.example
  workload: job-%05d
  destination: api-%02d
  credential: api-key
  allow: [{methods: [GET, POST], paths: ["/v1/area-%02d/**"]}]
  expires: 2099-12-31
`
