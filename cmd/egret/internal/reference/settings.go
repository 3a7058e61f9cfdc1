// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package reference

import (
	"strings"

	"github.com/egret-proxy/egret/config"
)

// writeSettings lists every key of egret.yaml: shape, default and rule from the package
// that checks them, words from the structs.
func writeSettings(o Options, m *markdown) error {
	structs, err := structures(o.Source, "config")
	if err != nil {
		return err
	}
	m.title("Settings: egret.yaml", "config/node.go and config/limits.go")
	m.para("The settings of one node, written by whoever runs it. `egret check` tells every fault at once, with line and hint. " +
		"Unknown keys are faults, and so is a setting that would be ignored. `[]` stands for every element of a list; " +
		"relative paths are relative to the file; durations are written as `30s`, `5m`, `1h`, sizes as `64KiB`, `100MiB`.")
	for _, section := range sections(config.Settings()) {
		top := section[0]
		m.heading(top.Key)
		if s, ok := structs[typeName(structs, top.Doc)]; ok {
			m.para(prose(sentence(s.doc)))
		}
		if len(section) > 1 {
			section = section[1:] // the section's words are above
		}
		m.table([]string{"key", "type", "default", "rule", "meaning"}, settingRows(structs, section))
	}
	return nil
}

// sections splits the settings by their first key.
func sections(all []config.Setting) [][]config.Setting {
	var out [][]config.Setting
	for _, s := range all {
		if !strings.ContainsAny(s.Key, ".[") {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], s)
	}
	return out
}

func settingRows(structs map[string]structure, section []config.Setting) [][]string {
	rows := make([][]string, 0, len(section))
	for _, s := range section {
		words := docOfField(structs, s.Doc)
		if words == "" {
			words = firstSentence(structs[typeName(structs, s.Doc)].doc)
		}
		rows = append(rows, []string{mono(s.Key), s.Type, mono(s.Default), prose(s.Rule), prose(oneLine(words))})
	}
	return rows
}

// docOfField finds the words for "Struct.Field".
func docOfField(structs map[string]structure, name string) string {
	return findField(structs, name).doc
}

func findField(structs map[string]structure, name string) field {
	owner, goName, _ := strings.Cut(name, ".")
	for _, f := range structs[owner].fields {
		if f.goName == goName {
			return f
		}
	}
	return field{}
}

// typeName is the struct that a field holds, or points to, or lists.
func typeName(structs map[string]structure, name string) string {
	return strings.TrimLeft(findField(structs, name).typ, "*[]")
}

func firstSentence(doc string) string {
	doc = oneLine(doc)
	if i := strings.Index(doc, ". "); i >= 0 {
		return doc[:i+1]
	}
	return doc
}
