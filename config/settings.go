// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Defaults returns the settings that hold where egret.yaml says nothing, as visible
// values. What has no default is empty and must be written.
func Defaults() Node {
	n := Node{
		Egress: Egress{Unlisted: "deny"},
		Audit:  Audit{File: "-", OnFull: "refuse"},
		Log:    Log{Level: "info"},
	}
	bounds := boundsByKey()
	walk(reflect.ValueOf(&n).Elem(), func(pattern, _ string, v reflect.Value) {
		if b, ok := bounds[pattern]; ok {
			v.SetInt(b.Default)
		}
	})
	return n
}

func (j *JWTSVID) setDefaults() {
	j.MaxTTL = time.Duration(boundsByKey()["listeners[].identify.jwtSVID.maxTTL"].Default)
}

// In a pod.
const (
	inClusterServer = "https://kubernetes.default.svc"
	inClusterFolder = "/var/run/secrets/kubernetes.io/serviceaccount/"
)

func (k *KubernetesToken) setDefaults() {
	k.Server, k.CA, k.TokenFile = inClusterServer, inClusterFolder+"ca.crt", inClusterFolder+"token"
	k.Age = time.Duration(boundsByKey()["listeners[].identify.kubernetesToken.age"].Default)
}

// walk calls f for every value below v that is not itself a struct or a list of
// structs, with its path and with the pattern of its path ([] for every index).
func walk(v reflect.Value, f func(pattern, path string, v reflect.Value)) {
	walkInto("", "", v, f)
}

func walkInto(pattern, path string, v reflect.Value, f func(string, string, reflect.Value)) {
	switch {
	case v.Kind() == reflect.Pointer && v.IsNil():
	case v.Kind() == reflect.Pointer:
		walkInto(pattern, path, v.Elem(), f)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		for i := range v.Len() {
			walkInto(pattern+"[]", fmt.Sprintf("%s[%d]", path, i), v.Index(i), f)
		}
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if name := jsonName(v.Type().Field(i)); name != "" {
				walkInto(join(pattern, name), join(path, name), v.Field(i), f)
			}
		}
	default:
		f(pattern, path, v)
	}
}

func join(path, name string) string {
	return strings.TrimPrefix(path+"."+name, ".")
}

// Setting is one line of the reference of egret.yaml.
type Setting struct {
	Key     string // path in the file; [] stands for any element
	Type    string // string, boolean, number, duration, size, mapping, list of …
	Default string // as it would be written; empty where there is none
	Rule    string // the range of a number, the words of an enumeration
	Doc     string // Struct.Field whose doc comment describes it
}

// Settings lists every setting of egret.yaml in the order of the structs, for the
// reference and for completion.
func Settings() []Setting {
	defaults := make(map[string]string)
	n := Defaults()
	walk(reflect.ValueOf(&n).Elem(), func(pattern, _ string, v reflect.Value) {
		defaults[pattern] = printed(v)
	})
	s := &settings{bounds: boundsByKey(), words: enumerations(), defaults: defaults}
	s.add("", reflect.TypeFor[Node]())
	return s.list
}

type settings struct {
	bounds   map[string]Bound
	words    map[string][]string
	defaults map[string]string
	list     []Setting
}

func (s *settings) add(prefix string, t reflect.Type) {
	for i := range t.NumField() {
		field := t.Field(i)
		name := jsonName(field)
		if name == "" {
			continue
		}
		key := join(prefix, name)
		s.list = append(s.list, s.one(key, t, field))
		s.below(key, field.Type)
	}
}

func (s *settings) below(key string, t reflect.Type) {
	switch t.Kind() {
	case reflect.Pointer:
		s.below(key, t.Elem())
	case reflect.Slice:
		s.below(key+"[]", t.Elem())
	case reflect.Struct:
		s.add(key, t)
	}
}

func (s *settings) one(key string, owner reflect.Type, field reflect.StructField) Setting {
	out := Setting{Key: key, Type: kindName(field.Type), Default: s.defaults[key], Doc: owner.Name() + "." + field.Name}
	if b, ok := s.bounds[key]; ok {
		out.Default, out.Rule = inUnit(field.Type, b.Default), b.rule(field.Type)
	}
	if words, ok := s.words[key]; ok {
		out.Rule = oneOf(words)
	}
	return out
}

// printed is a default as it would be written; zero values are not defaults.
func printed(v reflect.Value) string {
	switch {
	case v.IsZero():
		return ""
	case v.CanInt():
		return inUnit(v.Type(), v.Int())
	}
	return fmt.Sprint(v.Interface())
}

// enumerations are the settings that take one of a few words.
func enumerations() map[string][]string {
	return map[string][]string{
		"listeners[].kind":                       {kindForward, kindTransparent},
		"egress.unlisted":                        {"deny", "tunnel"},
		"listeners[].identify.process.attestor":  {attestDelegated, attestBroker, attestEmbedded},
		"listeners[].identify.process.reference": {ReferencePID, ReferencePod},
		"audit.onFull":                           {"refuse", "drop"},
		"log.level":                              {"debug", "info", "warn", "error"},
		"log.format":                             {"text", "json"},
	}
}

// What listeners are.
const (
	kindForward     = "forward"
	kindTransparent = "transparent"
)

// Who is asked about the callers of process listeners.
const (
	attestDelegated = "delegated"
	attestBroker    = "broker"
	attestEmbedded  = "embedded"
)

// How a broker is asked about a caller.
const (
	ReferencePID = "pid"
	ReferencePod = "pod"
)

func oneOf(words []string) string {
	if len(words) == 1 {
		return "must be " + words[0]
	}
	return "must be one of " + strings.Join(words, ", ")
}
