// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// defaulter is implemented by members of the configuration that only exist where
// they are written (behind a pointer, in a list) and have defaults of their own.
type defaulter interface{ setDefaults() }

// decode fills the struct that out points to from a document. It knows struct fields
// by their json tags, decodes what it can and reports everything else at once. It
// sees nodes, never types that decode themselves: yaml.v3 forgets to refuse unknown
// keys as soon as a type has an UnmarshalYAML.
func decode(doc document, out any) Faults {
	faults, _ := decodeNoting(doc, out)
	return faults
}

// decodeNoting also returns the paths whose value was not understood: to judge what is
// there would only confuse. A key that was meant for another one counts for that one.
func decodeNoting(doc document, out any) (Faults, unread) {
	d := &decoder{file: doc.file, unread: unread{}}
	d.value(doc.root, nil, reflect.ValueOf(out).Elem())
	return d.faults, d.unread
}

type decoder struct {
	file   string
	faults Faults
	unread unread
}

// unread is a set of paths.
type unread map[string]bool

// covers reports whether a path or something around it was not understood.
func (u unread) covers(p string) bool {
	for ; p != ""; p = enclosing(p) {
		if u[p] {
			return true
		}
	}
	return false
}

// bad reports a node. The value is shown where the node is a scalar and where the
// path does not say that it may be a secret.
func (d *decoder) bad(n *yaml.Node, p *path, rule, hint string) {
	d.unread[p.String()] = true
	if len(d.faults) >= maxFaults {
		return
	}
	at, value := p.String(), ""
	if n.Kind == yaml.ScalarNode && !isNull(n) {
		value = shown(at, n.Value)
	}
	d.faults = append(d.faults, Fault{File: d.file, Line: n.Line, Column: n.Column, Path: at, Value: value, Rule: rule, Hint: hint})
}

func (d *decoder) value(n *yaml.Node, p *path, v reflect.Value) {
	if n.Kind == yaml.AliasNode { // reported by the structural checks
		return
	}
	if isNull(n) && n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) == 0 {
		d.bad(n, p, "must have a value", "write one, or leave the key out")
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		d.pointer(n, p, v)
	case reflect.Struct:
		d.object(n, p, v)
	case reflect.Slice:
		d.list(n, p, v)
	case reflect.Map:
		d.mapping(n, p, v)
	default:
		d.scalar(n, p, v)
	}
}

func (d *decoder) pointer(n *yaml.Node, p *path, v reflect.Value) {
	fresh := reflect.New(v.Type().Elem())
	if x, ok := fresh.Interface().(defaulter); ok {
		x.setDefaults()
	}
	v.Set(fresh)
	d.value(n, p, fresh.Elem())
}

func (d *decoder) object(n *yaml.Node, p *path, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.bad(n, p, "must be a mapping", mappingHint(v.Type()))
		return
	}
	fields := fieldsOf(v.Type())
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, member := n.Content[i], n.Content[i+1]
		switch index, known := fields[key.Value]; {
		case known:
			d.value(member, p.child(key.Value), v.Field(index))
		case plainKey(key): // the others are reported by the structural checks
			d.unknown(key, p, fields)
		}
	}
}

func mappingHint(t reflect.Type) string {
	fields := fieldsOf(t)
	if len(fields) == 0 {
		return "write {}"
	}
	return listed(keys(fields))
}

// unknown reports a key that means nothing here. Where secrets stand, the key itself
// may be one, and only its place is told.
func (d *decoder) unknown(key *yaml.Node, p *path, fields map[string]int) {
	if len(d.faults) >= maxFaults { // a neighbour for every key of a huge file would take long
		return
	}
	if hidden(p.String()) {
		d.bad(&yaml.Node{Line: key.Line, Column: key.Column}, p, "must not have an unknown key", listed(keys(fields)))
		return
	}
	if meant := nearest(key.Value, keys(fields)); meant != "" {
		d.unread[p.child(meant).String()] = true
	}
	d.bad(&yaml.Node{Line: key.Line, Column: key.Column}, p.child(key.Value), "is not a known key", suggest(key.Value, keys(fields)))
}

func (d *decoder) list(n *yaml.Node, p *path, v reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		d.bad(n, p, "must be a list", listHint(n, p))
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		if x, ok := out.Index(i).Addr().Interface().(defaulter); ok {
			x.setDefaults()
		}
		d.value(item, p.at(i), out.Index(i))
	}
	v.Set(out)
}

func listHint(n *yaml.Node, p *path) string {
	if n.Kind != yaml.ScalarNode || hidden(p.String()) || len(n.Value) > maxSuggest {
		return ""
	}
	return fmt.Sprintf("write [%s]", strings.Trim(quote(n.Value), `"`))
}

func (d *decoder) mapping(n *yaml.Node, p *path, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.bad(n, p, "must be a mapping", "")
		return
	}
	out := reflect.MakeMapWithSize(v.Type(), len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, member := n.Content[i], n.Content[i+1]
		item := reflect.New(v.Type().Elem()).Elem()
		d.member(member, p.child(key.Value), item)
		out.SetMapIndex(reflect.ValueOf(key.Value).Convert(v.Type().Key()), item)
	}
	v.Set(out)
}

// member is one value of a map. A map of lists takes a single scalar for a list of
// one, since `ok: false` reads better than `ok: [false]`.
func (d *decoder) member(n *yaml.Node, p *path, v reflect.Value) {
	if v.Kind() != reflect.Slice || n.Kind != yaml.ScalarNode || isNull(n) {
		d.value(n, p, v)
		return
	}
	one := reflect.MakeSlice(v.Type(), 1, 1)
	d.value(n, p, one.Index(0))
	v.Set(one)
}

// fieldsOf maps the json names of a struct's exported fields to their indexes.
func fieldsOf(t reflect.Type) map[string]int {
	fields := make(map[string]int, t.NumField())
	for i := range t.NumField() {
		if name := jsonName(t.Field(i)); name != "" {
			fields[name] = i
		}
	}
	return fields
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if !f.IsExported() || name == "-" {
		return ""
	}
	return name
}

func keys(fields map[string]int) []string {
	out := make([]string, 0, len(fields))
	for k := range fields {
		out = append(out, k)
	}
	return out
}

//nolint:gochecknoglobals // constants, which Go has no form for
var (
	durationType = reflect.TypeFor[time.Duration]()
	sizeType     = reflect.TypeFor[Size]()
)
