// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	api "github.com/egret-proxy/egret/api/v1alpha1"
	"github.com/egret-proxy/egret/certs"
)

// LoadOptions is what a load needs to know besides the files.
type LoadOptions struct {
	// Permits reports whether a loaded intermediate may name a host: certs.Issuer's.
	// For "*.example.com" it is asked for example.com. Nil permits nothing, unless the
	// issuer is ephemeral, which is made for whatever is loaded.
	Permits func(host string) bool
	// PermitHint returns the command that makes an intermediate for a host. Nil: egret ca issue.
	PermitHint func(host string) string
	// Authorities are egret's own CA certificates, which no file of upstream roots may
	// hold (MUST T12). Those that carry egret's marker are known without it.
	Authorities []*x509.Certificate
	// Looked, where set, is told once what the load has looked at, from before it was
	// read. A load with faults gives no Bundle, and whoever waits for them to be put right
	// must watch the files that it wanted, not only those of the last good one.
	Looked func(Snapshot)
	// SecretsElsewhere is for who judges policy away from the node: in a review there are
	// no secrets. What is missing of them is in Bundle.Notes then, and no fault.
	SecretsElsewhere bool
	// Env is the machine; the zero Env is the real one.
	Env Env
}

// Bundle is one consistent load: what a running egret swaps in. Immutable.
type Bundle struct {
	Node     *Node
	Compiled *api.Compiled
	Objects  []api.Object // what it was compiled from, for reports
	Files    []string     // every file that was read or is named as the place of a secret, but those that egret itself writes
	Snapshot Snapshot     // of the policy folders and Files, from before they were read, for Watch
	Notes    []string     // what is no fault and worth knowing, one sentence each: previews, and what LoadOptions.SecretsElsewhere has let pass
	Digest   string       // changes with every object, root and bound that a decision depends on
}

// Load reads, validates and compiles the policy of a node. It is all or nothing: with
// one fault the Bundle is nil, and whoever reloads keeps the last good one (MUST G3).
// All faults are reported at once, except that the objects are held against each
// other only when all of them could be decoded.
func Load(node *Node, opt LoadOptions) (*Bundle, Faults) {
	before := policySnapshot(node.Policy.Paths)
	docs, faults := LoadPolicy(node.Policy.Paths)
	l := &loader{node: node, opt: opt, env: opt.Env.complete(), docs: docs, faults: faults, seen: before, named: map[string]bool{}}
	for i := range docs.Objects {
		l.object(i, len(faults) > 0)
	}
	compiled := l.compile(len(faults) > 0)
	if opt.Looked != nil {
		opt.Looked(l.seen)
	}
	if len(l.faults) > 0 {
		return nil, l.faults.sorted()
	}
	l.previews(compiled)
	return &Bundle{
		Node: node, Compiled: compiled, Objects: docs.Objects, Digest: compiled.Set.Digest,
		Files: slices.Concat(docs.Files, l.files), Snapshot: l.seen, Notes: l.notes,
	}, nil
}

// previews notes the providers that no real issuer has tested.
func (l *loader) previews(c *api.Compiled) {
	for i := range c.Credentials {
		if x := &c.Credentials[i]; x.Preview {
			l.notes = append(l.notes, fmt.Sprintf("credential %q: provider %s is a preview, not tested against a real issuer", x.Name, x.Provider.Kind()))
		}
	}
}

type loader struct {
	node   *Node
	opt    LoadOptions
	env    Env
	docs   *Documents
	faults Faults
	files  []string        // named by objects that may name files
	named  map[string]bool // files that objects without a scope name
	notes  []string
	seen   Snapshot
}

func (l *loader) bad(object int, path, value, rule, hint string) {
	l.faults = append(l.faults, l.docs.Fault(object, api.Fault{Path: path, Value: value, Rule: rule, Hint: hint}))
}

// object checks what one object names outside itself, where it is good and its author
// may name anything. Its own faults are told by Compile, or here where the objects
// cannot be compiled.
func (l *loader) object(i int, alone bool) {
	o := &l.docs.Objects[i]
	found := validate(o)
	if alone {
		for _, f := range found {
			l.faults = append(l.faults, l.docs.Fault(i, f))
		}
	}
	if len(o.Scope) > 0 { // what is not theirs to name is refused by Compile (MUST G1)
		return
	}
	for _, name := range fileFields(o) {
		l.named[*name] = true
	}
	if len(found) > 0 {
		return
	}
	states := stateFiles(o)
	for _, name := range fileFields(o) {
		state := slices.ContainsFunc(states, func(s api.StateFile) bool { return s.Name == *name })
		if *name != "" && !state && !l.seen.has(*name) {
			l.files = append(l.files, *name)
			l.seen.take(*name)
		}
	}
	switch {
	case o.Destination != nil:
		l.destination(i, &o.Destination.Spec)
	case o.Credential != nil:
		l.provider(i, &o.Credential.Spec.Provider)
	}
}

// compile holds the objects against each other. Without all of them, references would
// only seem to be broken.
func (l *loader) compile(incomplete bool) *api.Compiled {
	if incomplete {
		return nil
	}
	compiled, found := api.Compile(l.docs.Objects, api.Options{
		Roots:          l.roots,
		UnlistedTunnel: l.node.Egress.Unlisted == "tunnel",
		MaxStream:      l.node.Limits.MaxStream,
	})
	for _, f := range found {
		l.faults = append(l.faults, l.docs.Fault(f.Object, f.Fault))
	}
	return compiled
}

// roots reads a file of roots for Compile. Only files that an author without a scope
// has named are opened at all.
func (l *loader) roots(file string) (*x509.CertPool, string, error) {
	if !l.named[file] {
		return nil, "", errors.New("must be absent in a source that has a scope")
	}
	if err := regular(l.env, file, maxSecretBytes); err != nil {
		return nil, "", errors.New(mustBeReadable(err))
	}
	pool, digest, err := certs.LoadUpstreamRoots(file, l.opt.Authorities...)
	if err != nil {
		return nil, "", errors.New("must be a PEM file of roots: " + err.Error())
	}
	return pool, digest, nil
}

func validate(o *api.Object) []api.Fault {
	switch {
	case o.Workload != nil:
		return o.Workload.Validate()
	case o.Destination != nil:
		return o.Destination.Validate()
	case o.Credential != nil:
		return o.Credential.Validate()
	}
	return o.AccessPolicy.Validate()
}

func (l *loader) destination(i int, s *api.DestinationSpec) {
	if s.Intercept == "never" || l.node.Certs.Issuer.Ephemeral != nil {
		return
	}
	for j, host := range s.Hosts {
		if !l.permits(host) {
			l.bad(i, at("spec.hosts", j), host, "must be inside the permitted names of the loaded intermediates", l.permitHint(host))
		}
	}
}

// permits asks for the name that a constraint would have to hold (MUST K2).
func (l *loader) permits(host string) bool {
	return l.opt.Permits != nil && l.opt.Permits(strings.TrimPrefix(host, "*."))
}

func (l *loader) permitHint(host string) string {
	if l.opt.PermitHint != nil {
		return l.opt.PermitHint(host)
	}
	return "run: egret ca issue --root DIR --host " + shellWord(host) + " --out DIR --replace, with a --host for each host that the intermediate has already: egret ca show lists them"
}
