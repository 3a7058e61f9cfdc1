// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"path/filepath"

	"gopkg.in/yaml.v3"

	api "github.com/egret-proxy/egret/api/v1alpha1"
)

// Documents is what LoadPolicy read: the objects, and where each of them stands.
type Documents struct {
	Objects []api.Object
	Files   []string // read, in order
	Dirs    []string // listed, in order

	places []document // of the objects, same indexes
}

// Fault adds the place in the file to a fault of an object: that of the member, or of
// the nearest one around it that is written.
func (d *Documents) Fault(object int, f api.Fault) Fault {
	if object < 0 || object >= len(d.places) {
		return Fault{Path: f.Path, Value: shown(f.Path, f.Value), Rule: f.Rule, Hint: f.Hint}.withoutTokens()
	}
	return d.places[object].fault(f.Path, f.Value, f.Rule, f.Hint).withoutTokens()
}

// written returns the scalar that stands at a path of an object, "" if there is none.
func (d *Documents) written(object int, path string) string {
	if object < 0 || object >= len(d.places) {
		return ""
	}
	return d.places[object].text(path)
}

// LoadPolicy reads and decodes the policy documents of all paths, and reports every
// fault of reading and decoding. The objects are not validated. Documents holds what
// could be decoded even where there are faults, for checks that report more of them;
// nothing of it may be used then.
func LoadPolicy(paths []PolicyPath) (*Documents, Faults) {
	found := findPolicy(paths)
	out, faults := &Documents{Dirs: found.dirs}, found.faults
	read := map[string]*source{}
	for _, f := range found.files {
		out.Files = append(out.Files, f.name)
		s := read[f.root]
		if s == nil {
			s = &source{}
			read[f.root] = s
		}
		faults = append(faults, out.read(f, s)...)
	}
	return out, faults.sorted()
}

// source is how much of one entry of policy.paths was read.
type source struct{ bytes, objects int }

func (d *Documents) read(f policyFile, s *source) Faults {
	data, err := f.content()
	if err != nil {
		return Faults{{File: f.name, Rule: mustBeReadable(err)}}
	}
	before := s.bytes
	if s.bytes += len(data); s.bytes > maxSourceBytes {
		if before > maxSourceBytes { // told already
			return nil
		}
		return Faults{{File: f.name, Rule: fmt.Sprintf("must have at most %v, with all files of its entry of policy.paths", Size(maxSourceBytes))}}
	}
	had := len(d.Objects)
	faults := d.add(f, data)
	s.objects += len(d.Objects) - had
	if len(f.scope) > 0 && s.objects > maxScoped {
		d.Objects, d.places = d.Objects[:had], d.places[:had]
		faults = append(faults, Fault{File: f.name, Rule: fmt.Sprintf("must hold at most %d objects, with all files of its entry of policy.paths, which has a scope", maxScoped)})
	}
	return faults
}

// content reads a file, never waiting.
func (f policyFile) content() ([]byte, error) {
	if err := regular(Env{}.complete(), f.real, maxFileBytes); err != nil {
		return nil, err
	}
	if len(f.scope) > 0 {
		return readWithin(f.root, f.real)
	}
	return readRegular(f.real)
}

// add decodes the documents of one file.
func (d *Documents) add(f policyFile, data []byte) Faults {
	docs, faults := parse(f.name, data)
	for _, doc := range docs {
		object, found, unread := decodeObject(doc)
		faults = append(faults, found...)
		if len(found) > 0 || doc.broken {
			faults = append(faults, whatElse(doc, &object, unread)...)
			continue
		}
		object.Source, object.Scope = f.name, f.scope
		if len(f.scope) == 0 {
			resolveFiles(&object, filepath.Dir(f.name))
		}
		d.Objects = append(d.Objects, object)
		d.places = append(d.places, doc)
	}
	return faults
}

// whatElse is what is wrong with the part of a faulty document that was understood.
func whatElse(doc document, o *api.Object, unread unread) (faults Faults) {
	if unread == nil || doc.broken {
		return nil
	}
	for _, f := range validate(o) {
		if !unread.covers(f.Path) {
			faults = append(faults, doc.fault(f.Path, f.Value, f.Rule, f.Hint))
		}
	}
	return faults
}

// head is what every document begins with.
type head struct{ APIVersion, Kind string }

// header reads apiVersion and kind without judging anything else.
func header(d document) head {
	return head{APIVersion: d.text("apiVersion"), Kind: d.text("kind")}
}

// text returns the scalar at a path, "" if there is none.
func (d document) text(path string) string {
	node := d.root
	for path != "" {
		if _, node, path = step(node, path); node == nil {
			return ""
		}
	}
	if node.Kind != yaml.ScalarNode || isNull(node) {
		return ""
	}
	return node.Value
}

// decodeObject decodes a document by its kind.
func decodeObject(doc document) (api.Object, Faults, unread) {
	h := header(doc)
	var faults Faults
	if h.APIVersion != api.APIVersion { // Validate would say so too, in its own words
		faults = append(faults, doc.fault("apiVersion", h.APIVersion, "must be "+api.APIVersion, ""))
	}
	o := api.Object{}
	var target any
	switch h.Kind {
	case api.KindWorkload:
		o.Workload = new(api.Workload)
		target = o.Workload
	case api.KindDestination:
		o.Destination = new(api.Destination)
		target = o.Destination
	case api.KindCredential:
		o.Credential = new(api.Credential)
		target = o.Credential
	case api.KindAccessPolicy:
		o.AccessPolicy = new(api.AccessPolicy)
		target = o.AccessPolicy
	default:
		return api.Object{}, append(faults, kindFault(doc, h.Kind)), nil
	}
	found, unread := decodeNoting(doc, target)
	unread["apiVersion"], unread["kind"] = true, true // both judged here
	return o, append(faults, found...), unread
}

func kindFault(doc document, kind string) Fault {
	kinds := []string{api.KindWorkload, api.KindDestination, api.KindCredential, api.KindAccessPolicy}
	hint := ""
	if kind != "" {
		hint = suggest(kind, kinds)
	}
	return doc.fault("kind", kind, oneOf(kinds), hint)
}

// resolveFiles makes the paths in an object relative to the folder of its file. It is
// never called for objects of a scoped path, which may not name files at all.
func resolveFiles(o *api.Object, dir string) {
	for _, name := range fileFields(o) {
		if *name != "" && !filepath.IsAbs(*name) {
			*name = filepath.Join(dir, *name)
		}
	}
}

// fileFields returns every member of an object that names a file.
func fileFields(o *api.Object) []*string {
	var out []*string
	if o.Destination != nil && o.Destination.Spec.TLS != nil {
		out = append(out, &o.Destination.Spec.TLS.Roots)
	}
	if o.Credential == nil {
		return out
	}
	return append(out, o.Credential.Spec.Provider.Files()...)
}

// stateFiles returns those that egret writes.
func stateFiles(o *api.Object) []api.StateFile {
	if o.Credential == nil {
		return nil
	}
	return o.Credential.Spec.Provider.States()
}
