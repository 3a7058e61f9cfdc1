// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package reference

import (
	"fmt"
	"strings"

	"github.com/egret-proxy/egret/api/v1alpha1"
)

// writeObjects documents the four kinds of governed object.
func writeObjects(o Options, m *markdown) error {
	structs, err := structures(o.Source, "api/v1alpha1")
	if err != nil {
		return err
	}
	m.title("Policy documents: "+v1alpha1.APIVersion, "api/v1alpha1/types.go")
	m.para("What people write, review and own. Every document begins with `apiVersion: " + v1alpha1.APIVersion +
		"`, its `kind` and `metadata: {name: …}` (lower-case letters, digits and dashes, at most 63, unique per kind). " +
		"Unknown keys are faults. A load is all or nothing: any fault leaves the policy before in force. " +
		"[examples/local/policy](../../examples/local/policy) is a whole policy to copy.")
	for _, kind := range []string{v1alpha1.KindWorkload, v1alpha1.KindDestination, v1alpha1.KindCredential, v1alpha1.KindAccessPolicy} {
		s, ok := structs[kind+"Spec"]
		if !ok {
			return fmt.Errorf("kind %s: no type %sSpec", kind, kind)
		}
		m.heading(kind)
		m.para(prose(objectDoc(structs[kind].doc, kind)))
		m.table([]string{"key", "type", "meaning"}, objectRows(structs, "spec", s))
	}
	return nil
}

// objectDoc is "Workload is a …" as a sentence of its own.
func objectDoc(doc, kind string) string {
	return sentence(strings.TrimPrefix(strings.TrimPrefix(oneLine(doc), kind+" is "), kind+" "))
}

// objectRows lists the fields of a struct and of what they hold, depth first.
func objectRows(structs map[string]structure, prefix string, s structure) [][]string {
	var rows [][]string
	for _, f := range s.fields {
		key := prefix + "." + f.name
		below, ok := structs[strings.TrimLeft(f.typ, "*[]")]
		words := fieldWords(f)
		if words == "" {
			words = firstSentence(below.doc)
		}
		rows = append(rows, []string{mono(key), objectType(structs, f.typ), prose(words)})
		if ok {
			if strings.Contains(f.typ, "[]") {
				key += "[]"
			}
			rows = append(rows, objectRows(structs, key, below)...)
		}
	}
	return rows
}

// fieldWords are those of the doc comment without the field's Go name.
func fieldWords(f field) string {
	doc := oneLine(f.doc)
	rest, named := strings.CutPrefix(doc, f.goName+" ")
	if !named {
		return doc
	}
	for _, verb := range []string{"is ", "are ", "lists "} {
		if words, ok := strings.CutPrefix(rest, verb); ok {
			return words
		}
	}
	return rest
}

// objectType is a Go type in the words of the file's author.
func objectType(structs map[string]structure, typ string) string {
	typ = strings.TrimPrefix(typ, "*")
	if elem, ok := strings.CutPrefix(typ, "[]"); ok {
		return "list of " + plural(objectType(structs, elem))
	}
	if _, ok := structs[typ]; ok || strings.HasPrefix(typ, "map[") {
		return "mapping"
	}
	switch typ {
	case "int":
		return "number"
	case "bool":
		return "boolean"
	}
	return typ
}

func plural(s string) string { return s + "s" }
