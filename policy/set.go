// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/policy/minting"
	"github.com/egret-proxy/egret/policy/operation"
)

// Set is everything that a Policy is made from. Package api makes one out of governed
// objects and has checked it; New only indexes it, and leaves out what it cannot use.
type Set struct {
	Bindings       []Binding
	Destinations   []*Destination
	Rules          []*Rule // grants inside TLS
	Tunnels        []*Rule // grants of destinations that are not intercepted; path and methods mean nothing there
	UnlistedTunnel bool    // pass hosts that no destination lists unread, instead of refusing them
	Digest         string  // of all that the set was made from
}

// Binding says which SPIFFE IDs are a workload: one exactly, or a pattern in which *
// replaces whole path segments.
type Binding struct {
	Pattern  string
	Workload *Workload
}

// Policy is a compiled Set. It is immutable and safe for concurrent use. The zero
// Policy and a nil *Policy deny everything with policy/not_loaded.
type Policy struct {
	loaded   bool
	digest   string
	unlisted bool

	ids      map[string]*Workload        // exact SPIFFE IDs
	patterns map[string]*node[*Workload] // by trust domain
	hosts    map[string]*Destination
	parents  map[string]*Destination // "*.example.com" under "example.com"
	grants   map[pair]*grants
	tunnels  map[pair][]*Rule // the one that ends last stands first
	revoked  *revocations     // ahead of all that the maps grant

	bindings     []Binding
	destinations []*Destination
	rules        []*Rule
	aws          *operation.Extractor // what guards of AWS ask
}

// pair is what all grants are found by. The cost of a decision therefore does not
// depend on how many other workloads and destinations there are.
type pair struct {
	workload    *Workload
	destination *Destination
}

// New compiles a Set. The Set's objects must not be changed afterwards. Where a Set
// contradicts itself (which Compile of package api refuses), the first binding of an ID
// and the first destination of a host win.
func New(s Set) *Policy {
	p := &Policy{
		loaded:   true,
		digest:   s.Digest,
		unlisted: s.UnlistedTunnel,
		ids:      map[string]*Workload{},
		patterns: map[string]*node[*Workload]{},
		hosts:    map[string]*Destination{},
		parents:  map[string]*Destination{},
		grants:   map[pair]*grants{},
		tunnels:  map[pair][]*Rule{},

		bindings:     slices.Clone(s.Bindings),
		destinations: slices.Clone(s.Destinations),
		rules:        slices.Concat(s.Rules, s.Tunnels),
	}
	for _, b := range s.Bindings {
		p.bind(b)
	}
	for _, d := range s.Destinations {
		p.list(d)
	}
	p.grant(s.Rules)
	p.guard()
	p.permit(s.Tunnels)
	return p
}

func (p *Policy) bind(b Binding) {
	pattern, err := ParseIDPattern(b.Pattern)
	switch {
	case err != nil || b.Workload == nil:
	case pattern.Exact():
		setNew(p.ids, b.Pattern, b.Workload)
	default:
		if p.patterns[pattern.domain] == nil {
			p.patterns[pattern.domain] = &node[*Workload]{}
		}
		if w := p.patterns[pattern.domain].at("/" + strings.Join(pattern.segments, "/")); *w == nil {
			*w = b.Workload
		}
	}
}

func (p *Policy) list(d *Destination) {
	for _, h := range d.Hosts {
		if parent, wild := strings.CutPrefix(h, "*."); wild {
			setNew(p.parents, parent, d)
		} else {
			setNew(p.hosts, h, d)
		}
	}
}

func setNew[K comparable, V any](m map[K]V, key K, v V) {
	if _, ok := m[key]; !ok {
		m[key] = v
	}
}

func (p *Policy) grant(rules []*Rule) {
	for _, r := range slices.SortedStableFunc(slices.Values(rules), lastsLonger) {
		k := pair{r.Workload, r.Destination}
		if p.grants[k] == nil {
			p.grants[k] = &grants{}
		}
		p.grants[k].add(r)
	}
}

// guard gives each group of grants the calls that its destination must not let through
// unnamed (MUST H11).
func (p *Policy) guard() {
	list, guards := minting.Builtin(), map[*Destination]*minting.Guard{}
	if e, err := operation.New(operation.AWS, ""); err == nil { // always: it is of this tree
		p.aws = e
	}
	for k, g := range p.grants {
		if k.destination == nil {
			continue
		}
		if guards[k.destination] == nil {
			guards[k.destination] = list.At(k.destination.Hosts)
		}
		g.minting, g.extractor = guards[k.destination], k.destination.Operation
	}
}

func (p *Policy) permit(tunnels []*Rule) {
	for _, r := range slices.SortedStableFunc(slices.Values(tunnels), lastsLonger) {
		k := pair{r.Workload, r.Destination}
		p.tunnels[k] = append(p.tunnels[k], r)
	}
}

// lastsLonger orders equal grants: of several that cover one request the one that ends
// last decides, then the name, so that the answer does not depend on file order.
func lastsLonger(a, b *Rule) int {
	return cmp.Or(b.Expires.Compare(a.Expires), cmp.Compare(a.Policy, b.Policy),
		cmp.Compare(a.PathTemplate, b.PathTemplate), cmp.Compare(a.Digest, b.Digest))
}

// grants holds the rules of one workload at one destination.
type grants struct {
	all     node[entry] // for paths that are plain
	encoded node[entry] // only rules with encoded: true, for paths that are not
	escapes bool        // encoded holds something
	observe *Rule       // set while all rules observe: the one that ends last
	enforce bool        // some rule enforces

	minting   *minting.Guard
	extractor *operation.Extractor // nil: nothing reads operations here
}

// entry holds the rules of one path template.
type entry struct {
	any      map[string]*Rule // by method, those that name no operation
	rules    map[grant]*Rule  // those that do
	prefixes []prefixRule
	methods  map[string]bool
	named    map[string]bool // methods for which some rule names operations
}

// grant is what a rule grants at its path; an empty field means any.
type grant struct{ method, operation string }

// add is called in the order of lastsLonger.
func (g *grants) add(r *Rule) {
	if !strings.HasPrefix(r.PathTemplate, "/") {
		return
	}
	g.all.at(r.PathTemplate).add(r)
	if r.Encoded {
		g.escapes = true
		g.encoded.at(r.PathTemplate).add(r)
	}
	switch {
	case !r.Observe:
		g.enforce, g.observe = true, nil
	case !g.enforce && g.observe == nil:
		g.observe = r
	}
}

func (e *entry) add(r *Rule) {
	if e.rules == nil {
		e.any, e.rules, e.methods, e.named = map[string]*Rule{}, map[grant]*Rule{}, map[string]bool{}, map[string]bool{}
	}
	for _, m := range orAny(r.Methods) {
		e.methods[m] = true
		e.named[m] = e.named[m] || len(r.Operations) > 0
		for _, name := range orAny(r.Operations) {
			if prefix, wild := strings.CutSuffix(name, "*"); wild {
				e.addPrefix(prefixRule{m, prefix, r})
			} else if name == "" {
				setNew(e.any, m, r)
			} else {
				setNew(e.rules, grant{m, name}, r)
			}
		}
	}
}

func orAny(list []string) []string {
	if len(list) == 0 {
		return []string{""}
	}
	return list
}

// Digest names the Set that the Policy was made from; "" for the zero Policy.
func (p *Policy) Digest() string {
	if p == nil {
		return ""
	}
	return p.digest
}

// Workload returns the workload that an ID names, or nil. An exact binding beats a
// pattern.
func (p *Policy) Workload(id spiffeid.ID) *Workload {
	if p == nil || id.IsZero() || id.Path() == "" {
		return nil
	}
	if w := p.ids[id.String()]; w != nil {
		return w
	}
	var found *Workload
	if t := p.patterns[id.TrustDomain().Name()]; t != nil {
		t.walk(id.Path()[1:], func(w **Workload) bool { found = *w; return true })
	}
	return found
}

// Destination returns the destination that lists the target's host and port, or nil.
func (p *Policy) Destination(t Target) *Destination {
	if d := p.listing(t.Host); d != nil && slices.Contains(d.Ports, t.Port) {
		return d
	}
	return nil
}

// Lists reports whether a destination that is intercepted names the host, on any port:
// whether a certificate for it may be made.
func (p *Policy) Lists(host string) bool {
	if p == nil || !p.loaded {
		return false
	}
	d := p.listing(host)
	return d != nil && d.Intercept
}

// listing returns the destination that lists a host on whatever port.
func (p *Policy) listing(host string) *Destination {
	if p == nil {
		return nil
	}
	if d := p.hosts[host]; d != nil {
		return d
	}
	if label, parent, ok := strings.Cut(host, "."); ok && label != "" && !isIP(host) {
		return p.parents[parent]
	}
	return nil
}

// Destinations returns all destinations. The slice is the caller's.
func (p *Policy) Destinations() []*Destination {
	if p == nil {
		return nil
	}
	return slices.Clone(p.destinations)
}

// Rules returns all rules, those of tunnels last. The slice is the caller's.
func (p *Policy) Rules() []*Rule {
	if p == nil {
		return nil
	}
	return slices.Clone(p.rules)
}

// Bindings returns which SPIFFE IDs are which workload. The slice is the caller's.
func (p *Policy) Bindings() []Binding {
	if p == nil {
		return nil
	}
	return slices.Clone(p.bindings)
}

// live reports whether a rule still grants.
func (r *Rule) live(at time.Time) bool { return at.Before(r.Expires) }
