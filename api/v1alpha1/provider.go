// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"reflect"
	"strings"
)

// A new kind of provider is one type here, in a file provider_NAME.go: its settings with
// json tags and doc comments (the reference is made from them), check and traits. It
// becomes a member of Provider, gets a builder in config/provider_NAME.go, and an example
// in examples/credentials. Nothing else knows the kinds.

// providerSpec is what every member of Provider is besides its settings.
type providerSpec interface {
	// check reports what is wrong with the settings; path is where they stand. Secrets,
	// files and the endpoint are found and read by their types: check only says which of
	// them must be there and calls faults.source and faults.endpoint.
	check(f *faults, path string)
	traits() traits
}

// traits is how egret must treat what a provider gives.
type traits struct {
	shared      bool     // one value for all workloads: nothing of the caller goes into it
	usesSVID    bool     // logs in with an SVID, the caller's or (as: egret) egret's own
	values      []string // what injections may name; nil: only token
	signs       bool     // gives AWS keys, which sigv4 signs with and no template shows
	certificate bool     // presents a client certificate to the destination, so inject may be absent
	preview     bool     // not tested against a real issuer
	assertion   string   // audience of the JWT-SVID that it shows to the issuer or destination
	audience    string   // these three are asked for, and part of the cache's key
	resource    string
	scopes      []string
}

// placeholders are the traits' values as templates write them.
func (t traits) placeholders() []string {
	if t.values == nil {
		return []string{"{token}"}
	}
	out := make([]string, 0, len(t.values))
	for _, v := range t.values {
		out = append(out, "{"+v+"}")
	}
	return out
}

// Endpoint is how the hosts of an issuer are reached.
type Endpoint struct {
	// Roots is a PEM file with the only roots trusted for the issuer, relative to the policy file. Default: the node's.
	Roots string `json:"roots,omitempty" file:"yes"`
	// Dial is "host:port" to connect to instead of resolving the issuer's host; the certificate is still checked for the host.
	Dial string `json:"dial,omitempty"`
	// AllowPrivate lists private ranges (CIDR) that the issuer's host may resolve to. Default: none.
	AllowPrivate []string `json:"allowPrivate,omitempty"`
}

func (f *faults) endpoint(path string, e *Endpoint) {
	if e == nil {
		return
	}
	if e.Roots != "" {
		f.file(path+".roots", e.Roots)
	}
	f.dial(path+".dial", e.Dial)
	f.prefixes(path+".allowPrivate", e.AllowPrivate)
}

// PlacedSecret is a SecretSource with the path that it stands at, below its object.
type PlacedSecret struct {
	Path   string
	Source *SecretSource
}

// Kind is the name of the member that is set, "" where it is not exactly one.
func (p *Provider) Kind() string {
	name, _ := p.only()
	return name
}

// Preview reports a kind that no real issuer has tested.
func (p *Provider) Preview() bool { return p.traits().preview }

// Assertion is the audience of the JWT-SVID that the provider shows to others, "" where it
// shows none.
func (p *Provider) Assertion() string { return p.traits().assertion }

// only returns the one member that is set, or "" and nil.
func (p *Provider) only() (string, providerSpec) {
	var name string
	var spec providerSpec
	v := reflect.ValueOf(p).Elem()
	for i := range v.NumField() {
		if v.Field(i).IsNil() {
			continue
		}
		if spec != nil {
			return "", nil
		}
		name, spec = jsonName(v.Type().Field(i)), v.Field(i).Interface().(providerSpec) //nolint:forcetypeassert // a test holds every member to it
	}
	return name, spec
}

func (p *Provider) traits() traits {
	if _, spec := p.only(); spec != nil {
		return spec.traits()
	}
	return traits{}
}

// kinds lists the members of Provider.
func providerKinds() []string {
	t := reflect.TypeFor[Provider]()
	out := make([]string, 0, t.NumField())
	for i := range t.NumField() {
		out = append(out, jsonName(t.Field(i)))
	}
	return out
}

// Secrets returns every place of a secret that the provider names.
func (p *Provider) Secrets() []PlacedSecret {
	var out []PlacedSecret
	p.walk(func(path string, v reflect.Value, _ reflect.StructTag) {
		if s, ok := v.Addr().Interface().(*SecretSource); ok {
			out = append(out, PlacedSecret{path, s})
		}
	})
	return out
}

// Files returns every member that names a file, those of secrets included. They can be
// set: who reads the objects makes relative paths absolute.
func (p *Provider) Files() []*string {
	var out []*string
	p.walk(func(_ string, v reflect.Value, tag reflect.StructTag) {
		if s, ok := v.Addr().Interface().(*string); ok && *s != "" && tag.Get("file") != "" {
			out = append(out, s)
		}
	})
	return out
}

// StateFile is a file that egret itself writes.
type StateFile struct {
	Path string // where it is named, below its object
	Name string
	Made bool // egret makes it; otherwise somebody has put in a first secret
}

// States returns the files among Files that egret writes, so that nobody reads policy anew
// because of it.
func (p *Provider) States() []StateFile {
	var out []StateFile
	p.walk(func(path string, v reflect.Value, tag reflect.StructTag) {
		if isState(tag) && v.String() != "" {
			out = append(out, StateFile{path, v.String(), tag.Get("file") == fileMade})
		}
	})
	return out
}

// Values of the tag "file" of members that name files which egret writes; others are "yes".
const (
	fileState = "state" // somebody writes it first
	fileMade  = "made"  // egret makes it
)

func isState(tag reflect.StructTag) bool {
	kind := tag.Get("file")
	return kind == fileState || kind == fileMade
}

// Endpoint returns how the provider's issuer is reached, and the path that this stands
// at; nil where the object does not say.
func (p *Provider) Endpoint() (path string, e *Endpoint) {
	p.walk(func(at string, v reflect.Value, _ reflect.StructTag) {
		if x, ok := v.Addr().Interface().(*Endpoint); ok {
			path, e = at, x
		}
	})
	return path, e
}

// walk visits every member that is there, those of structs within included.
func (p *Provider) walk(visit func(path string, v reflect.Value, tag reflect.StructTag)) {
	walk("spec.provider", reflect.ValueOf(p).Elem(), "", visit)
}

func walk(path string, v reflect.Value, tag reflect.StructTag, visit func(string, reflect.Value, reflect.StructTag)) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			walk(path, v.Elem(), tag, visit)
		}
	case reflect.Struct:
		visit(path, v, tag)
		for i := range v.NumField() {
			f := v.Type().Field(i)
			walk(path+"."+jsonName(f), v.Field(i), f.Tag, visit)
		}
	case reflect.Slice:
		for i := range v.Len() {
			walk(at(path, i), v.Index(i), tag, visit)
		}
	case reflect.String:
		visit(path, v, tag)
	}
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// OpenMembers are the names of the members of all providers that never hold a secret and
// never say where one is, so that a fault may show their values. Maps are not among them:
// their keys are their author's.
func OpenMembers() map[string]bool {
	open := map[string]bool{}
	openMembers(reflect.TypeFor[Provider](), "", open)
	for _, f := range reflect.VisibleFields(reflect.TypeFor[SecretSource]()) { // wherever they stand
		delete(open, jsonName(f))
	}
	return open
}

func openMembers(t reflect.Type, name string, open map[string]bool) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		openMembers(t.Elem(), name, open)
	case reflect.Struct:
		if t == reflect.TypeFor[SecretSource]() {
			return
		}
		for i := range t.NumField() {
			if f := t.Field(i); !isState(f.Tag) { // people put a first secret in there
				openMembers(f.Type, jsonName(f), open)
			}
		}
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int64:
		open[name] = true
	}
}
