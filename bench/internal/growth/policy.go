// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package growth

import (
	"fmt"
	"strings"

	"github.com/egret-proxy/egret/bench/internal/rig"
)

const (
	perHost   = 100  // hosts of one Destination
	perFile   = 9000 // objects of one file; egret reads at most 10,000
	area      = "/v1/area-00/"
	perWorker = 10 // access policies of each workload where policies are counted
)

func workloadID(i int) string { return fmt.Sprintf("spiffe://%s/ns/load/sa/job-%05d", rig.Domain, i) }

func hostName(i int) string { return fmt.Sprintf("api-%05d.%s", i, rig.Domain) }

// documents are the governed objects of one egret, in files of a size that it reads.
type documents struct {
	origin, roots, token string // address of the origin, files
	files                []strings.Builder
	objects              int
}

func (d *documents) add(format string, args ...any) {
	if d.objects%perFile == 0 {
		d.files = append(d.files, strings.Builder{})
	}
	d.objects++
	fmt.Fprintf(&d.files[len(d.files)-1], "---\napiVersion: egret.dev/v1alpha1\n"+format, args...)
}

func (d *documents) texts() []string {
	out := make([]string, 0, len(d.files))
	for i := range d.files {
		out = append(out, d.files[i].String())
	}
	return out
}

// documents begins with what every egret has: destinations for the hosts, and a
// credential that all may use.
func (w *world) documents(hosts int) *documents {
	d := &documents{origin: w.origin.Address(rig.Direct), roots: w.origin.File("origin-ca.pem"), token: w.origin.File("token")}
	var names []string
	for first := 0; first < hosts; first += perHost {
		name := fmt.Sprintf("hosts-%05d", first)
		var list []string
		for i := first; i < min(hosts, first+perHost); i++ {
			list = append(list, hostName(i))
		}
		names = append(names, name)
		d.add(`kind: Destination
metadata: {name: %s}
spec:
  hosts: [%s]
  dial: %q
  tls: {roots: %q}
  allowPrivate: [127.0.0.0/8]
`, name, strings.Join(list, ", "), d.origin, d.roots)
	}
	d.add(`kind: Credential
metadata: {name: api-key}
spec:
  owner: bench@bench.example
  environment: production
  destinations: [%s]
  usableBy: ["spiffe://%s/ns/load/sa/*"]
  provider: {static: {value: {file: %q}}}
  inject: [{header: Authorization, value: "Bearer {token}"}]
`, strings.Join(names, ", "), rig.Domain, d.token)
	return d
}

func (d *documents) workload(i int) {
	d.add(`kind: Workload
metadata: {name: job-%05d}
spec:
  spiffeID: %s
  owner: bench@bench.example
  purpose: is one of many that a node's policy names
  environment: production
  evidence: [jwt-svid]
`, i, workloadID(i))
}

// grant lets a workload call an area of the hosts from first on.
func (d *documents) grant(workload, number, first int) {
	d.add(`kind: AccessPolicy
metadata: {name: grant-%05d-%05d-%02d}
spec:
  owner: bench@bench.example
  workload: job-%05d
  destination: hosts-%05d
  credential: api-key
  allow: [{methods: [GET, POST], paths: ["/v1/area-%02d/**"]}]
  expires: 2099-12-31
`, workload, first, number, workload, first, number)
}

// grants are as many access policies on one host, ten for each workload.
func (d *documents) grants(n int) {
	for i := range n {
		if i%perWorker == 0 {
			d.workload(i / perWorker)
		}
		d.grant(i/perWorker, i%perWorker, 0)
	}
}
