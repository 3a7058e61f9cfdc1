// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/egret-proxy/egret/policy"
)

// conflicts finds objects that are sound by themselves and contradict each other.
func (c *compiler) conflicts() {
	c.sameIDs()
	c.sameHosts()
	c.sameRequests()
}

// sameIDs: no two Workloads may name one ID.
func (c *compiler) sameIDs() {
	var units []*workload
	var patterns []policy.IDPattern
	for _, w := range inOrder(c.workloads) {
		units, patterns = append(units, w), append(patterns, c.patterns[w])
	}
	for _, pair := range policy.OverlappingIDs(patterns) {
		first, second := units[pair[0]], units[pair[1]]
		c.fault(second.index, Fault{"spec.spiffeID", second.spec.Spec.SpiffeID, "must not name an ID that another workload names",
			fmt.Sprintf("workload %s is %s", first.name, first.spec.Spec.SpiffeID)})
	}
}

// sameHosts: no host may stand in two destinations, nor under the wildcard of another.
func (c *compiler) sameHosts() {
	owner := map[string]*destination{}
	under := map[string]map[string]string{} // parent -> destination name -> one of its exact hosts there
	for _, d := range inOrder(c.destinations) {
		for _, h := range d.out.Hosts {
			if first := owner[h]; first != nil && first != d {
				c.hostFault(d, h, first.name)
			}
			owner[h] = d
			if _, parent, ok := strings.Cut(h, "."); ok && !strings.HasPrefix(h, "*.") {
				if under[parent] == nil {
					under[parent] = map[string]string{}
				}
				under[parent][d.name] = h
			}
		}
	}
	for _, parent := range slices.Sorted(maps.Keys(under)) {
		wild := owner["*."+parent]
		for _, name := range slices.Sorted(maps.Keys(under[parent])) {
			if wild != nil && name != wild.name {
				c.hostFault(wild, "*."+parent, name)
			}
		}
	}
}

func (c *compiler) hostFault(d *destination, host, other string) {
	c.fault(d.index, Fault{"spec.hosts", host, "must not name a host that another destination lists", "destination " + other + " lists it"})
}

// sameRequests: no two policies may decide one request differently, that is with
// another credential or in another mode. Which of them has ended does not matter: a
// renewal must not change what the other one means.
func (c *compiler) sameRequests() {
	type pair struct{ workload, destination string }
	groups := map[pair][]*accessPolicy{}
	var order []pair
	for _, p := range inOrder(c.policies) {
		k := pair{p.spec.Spec.Workload, p.spec.Spec.Destination}
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], p)
	}
	for _, k := range order {
		c.contradictions(groups[k])
	}
}

// maxCompared is how many pairs of rules are compared: what a second is enough for.
const maxCompared = 1_000_000

// answer is what a policy does with the requests that it covers.
type answer struct{ credential, mode string }

func answerOf(p *accessPolicy) answer {
	return answer{p.spec.Spec.Credential, cmp.Or(p.spec.Spec.Mode, "enforce")}
}

// contradictions looks at the policies of one workload and destination. Those that
// answer alike need not be compared, and most do.
func (c *compiler) contradictions(group []*accessPolicy) {
	alike := map[answer][]*accessPolicy{}
	var order []answer
	for _, p := range group {
		mine := answerOf(p)
		for _, other := range order {
			if other != mine && !c.contradicted(p, alike[other]) {
				return
			}
		}
		if alike[mine] == nil {
			order = append(order, mine)
		}
		alike[mine] = append(alike[mine], p)
	}
}

// contradicted compares a policy with earlier ones that answer otherwise. It is false
// where that is too much, which is a fault.
func (c *compiler) contradicted(p *accessPolicy, others []*accessPolicy) bool {
	for _, earlier := range others {
		if c.compared += len(p.out) * len(earlier.out); c.compared > maxCompared {
			c.fault(p.index, Fault{"spec.allow", "", fmt.Sprintf("must not make more than %d pairs of rules that grant one workload the same destination with different credentials or modes", maxCompared),
				"fewer, wider rules, or another workload"})
			return false
		}
		if a, b := meeting(p, earlier); a != nil {
			c.fault(p.index, Fault{"spec.allow", a.PathTemplate, "must not cover a request that another policy decides with another credential or mode",
				fmt.Sprintf("policy %s covers %s", earlier.name, b.PathTemplate)})
		}
	}
	return true
}

// meeting returns a rule of each that some request meets both of, or nil.
func meeting(a, b *accessPolicy) (*policy.Rule, *policy.Rule) {
	for _, r := range a.out {
		if i := slices.IndexFunc(b.out, func(o *policy.Rule) bool { return policy.Overlap(r, o) }); i >= 0 {
			return r, b.out[i]
		}
	}
	return nil, nil
}
