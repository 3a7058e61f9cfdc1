// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"cmp"
	"crypto/x509"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/egret-proxy/egret/policy"
)

// Object is one document with where it comes from. Exactly one of the last four is set.
type Object struct {
	Source string   // file or Kubernetes key, for hints
	Scope  []string // not empty: the author may only name SPIFFE IDs under these patterns (MUST G1)

	Workload     *Workload
	Destination  *Destination
	Credential   *Credential
	AccessPolicy *AccessPolicy
}

// Options are what a set is compiled with besides its objects.
type Options struct {
	// Roots reads a PEM file of trusted roots and returns them with a digest of their
	// content. file is as it stands in the object: who reads the objects makes relative
	// paths absolute first. Nil refuses every object that names roots.
	Roots func(file string) (pool *x509.CertPool, digest string, err error)
	// UnlistedTunnel passes hosts that no Destination lists unread.
	UnlistedTunnel bool
	// MaxStream is the node's limit for upgraded connections and streams: the default of
	// policies that set none and the most that one may set. Zero: no limit.
	MaxStream time.Duration
}

// Compiled is a set of objects in the form that the data path uses.
type Compiled struct {
	Set         policy.Set
	Credentials []CompiledCredential // sorted by name
}

// CompiledCredential is everything that is needed to build a provider and its injection.
type CompiledCredential struct {
	Name         string
	Generation   string // digest of the spec and its roots; a change makes new cache entries
	Owner        string
	Environment  string
	AsEgret      bool // log in with egret's own identity instead of the caller's
	Shared       bool // one value for all workloads
	Bare         bool // the client certificate is the credential: inject may be empty
	Preview      bool // its provider is not tested against a real issuer
	TTL          time.Duration
	Provider     Provider
	Roots        *x509.CertPool // for the token endpoint; nil: the node's
	RootsDigest  string
	Inject       []CompiledInject
	Destinations []string
}

// CompiledInject is an Inject with the host patterns that it applies to.
type CompiledInject struct {
	Inject
	Hosts []string // canonical; "*.example.com" is exactly one label
}

// ObjectFault is a fault of the object with this index.
type ObjectFault struct {
	Object int
	Fault
}

// Compile checks a set of objects as a whole and turns it into the policy's form. It is
// all or nothing (MUST G3): with any fault the result is nil. All faults of all objects
// are returned at once, sorted by object. The result does not depend on the order of the objects. Expired policies are checked like others,
// since Compile knows no clock.
func Compile(objs []Object, opt Options) (*Compiled, []ObjectFault) {
	c := newCompiler(objs, opt)
	for i := range objs {
		c.collect(i)
	}
	c.linkWorkloads()
	c.linkDestinations()
	c.linkCredentials()
	c.linkPolicies()
	c.conflicts()
	if len(c.faults) > 0 {
		slices.SortStableFunc(c.faults, func(a, b ObjectFault) int { return cmp.Compare(a.Object, b.Object) })
		return nil, c.faults
	}
	return c.result(), nil
}

// unit is one named object on its way; T is its kind and C its compiled form.
type unit[T, C any] struct {
	index  int
	name   string
	source string
	scope  []string
	spec   T
	out    C
	digest string // of the spec and the files it names
}

type (
	workload     = unit[*Workload, *policy.Workload]
	destination  = unit[*Destination, *policy.Destination]
	credential   = unit[*Credential, *policy.Credential]
	accessPolicy = unit[*AccessPolicy, []*policy.Rule]
)

// compiler holds the state of one Compile.
type compiler struct {
	objs   []Object
	opt    Options
	faults []ObjectFault

	workloads    map[string]*workload
	destinations map[string]*destination
	credentials  map[string]*credential
	policies     map[string]*accessPolicy

	patterns map[*workload]policy.IDPattern
	compiled []CompiledCredential
	guesses  int
	compared int // pairs of rules
}

func newCompiler(objs []Object, opt Options) *compiler {
	return &compiler{
		objs: objs, opt: opt,
		workloads:    map[string]*workload{},
		destinations: map[string]*destination{},
		credentials:  map[string]*credential{},
		policies:     map[string]*accessPolicy{},
		patterns:     map[*workload]policy.IDPattern{},
	}
}

func (c *compiler) fault(object int, f ...Fault) {
	for _, x := range f {
		c.faults = append(c.faults, ObjectFault{object, x})
	}
}

// collect checks one object by itself and notes it under its name. An object with
// faults is noted too, so that what refers to it does not seem to refer to nothing.
func (c *compiler) collect(i int) {
	o := &c.objs[i]
	if o.kinds() != 1 {
		c.fault(i, Fault{Path: "kind", Rule: "must be exactly one kind of object"})
		return
	}
	switch {
	case o.Workload != nil:
		c.fault(i, o.Workload.Validate()...)
		note(c, c.workloads, newUnit[*policy.Workload](i, o, o.Workload.Metadata, o.Workload))
	case o.AccessPolicy != nil:
		c.fault(i, o.AccessPolicy.Validate()...)
		note(c, c.policies, newUnit[[]*policy.Rule](i, o, o.AccessPolicy.Metadata, o.AccessPolicy))
	case o.Destination != nil:
		c.fault(i, o.Destination.Validate()...)
		c.platformOnly(i, KindDestination)
		note(c, c.destinations, newUnit[*policy.Destination](i, o, o.Destination.Metadata, o.Destination))
	default:
		c.fault(i, o.Credential.Validate()...)
		c.platformOnly(i, KindCredential)
		note(c, c.credentials, newUnit[*policy.Credential](i, o, o.Credential.Metadata, o.Credential))
	}
}

func (o *Object) kinds() int {
	n := 0
	for _, set := range []bool{o.Workload != nil, o.Destination != nil, o.Credential != nil, o.AccessPolicy != nil} {
		if set {
			n++
		}
	}
	return n
}

func newUnit[C, T any](i int, o *Object, m Meta, spec T) *unit[T, C] {
	return &unit[T, C]{index: i, name: m.Name, source: o.Source, scope: o.Scope, spec: spec}
}

func note[T, C any](c *compiler, names map[string]*unit[T, C], u *unit[T, C]) {
	first, taken := names[u.name]
	switch {
	case !validName(u.name): // Validate has said so
		return
	case !taken:
		names[u.name] = u
		return
	}
	c.fault(u.index, Fault{"metadata.name", u.name, "must be unique for its kind", "it stands already in " + cmp.Or(first.source, "another document")})
}

// inOrder returns the units by name, so that nothing depends on the order of files.
func inOrder[T, C any](names map[string]*unit[T, C]) []*unit[T, C] {
	out := make([]*unit[T, C], 0, len(names))
	for _, u := range names {
		out = append(out, u)
	}
	slices.SortFunc(out, func(a, b *unit[T, C]) int { return cmp.Compare(a.name, b.name) })
	return out
}

// maxGuesses is for how many broken references a name is looked for that may be meant:
// each of them costs as much as there are names.
const maxGuesses = 100

// find looks up a reference and reports what is missing.
func find[T, C any](c *compiler, names map[string]*unit[T, C], ref reference) *unit[T, C] {
	u := names[ref.name]
	if u == nil && validName(ref.name) { // otherwise Validate has said so
		hint := ""
		if c.guesses++; c.guesses <= maxGuesses {
			hint = didYouMean(ref.name, slices.Sorted(maps.Keys(names)))
		}
		c.fault(ref.from, Fault{ref.path, ref.name, "must name a " + ref.kind + " that exists", hint})
	}
	return u
}

// reference is a name in an object that stands for another one.
type reference struct {
	from             int
	path, name, kind string
}

// roots reads a file of roots; an error is a fault.
func (c *compiler) roots(object int, path, file string) (*x509.CertPool, string) {
	err := errors.New("must be absent: roots cannot be read here")
	if c.opt.Roots != nil {
		var pool *x509.CertPool
		var digest string
		if pool, digest, err = c.opt.Roots(file); err == nil && pool != nil && digest != "" {
			return pool, digest
		}
		if err == nil {
			err = errors.New("must hold at least one certificate")
		}
	}
	c.fault(object, Fault{Path: path, Value: file, Rule: err.Error()})
	return nil, ""
}

// result assembles a set that has no faults.
func (c *compiler) result() *Compiled {
	set := policy.Set{UnlistedTunnel: c.opt.UnlistedTunnel}
	for _, w := range inOrder(c.workloads) {
		set.Bindings = append(set.Bindings, policy.Binding{Pattern: w.spec.Spec.SpiffeID, Workload: w.out})
	}
	for _, d := range inOrder(c.destinations) {
		set.Destinations = append(set.Destinations, d.out)
	}
	for _, p := range inOrder(c.policies) {
		if p.out[0].Destination.Intercept {
			set.Rules = append(set.Rules, p.out...)
		} else {
			set.Tunnels = append(set.Tunnels, p.out...)
		}
	}
	set.Digest = c.digest()
	return &Compiled{Set: set, Credentials: c.compiled}
}
