// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"slices"
	"strings"
)

// injections checks where the value is put.
func (f *faults) injections(s *CredentialSpec) {
	const path = "spec.inject"
	if len(s.Inject) == 0 {
		f.add(Fault{path, "", "is required", `set a header: {header: Authorization, value: "Bearer {token}"}`})
	}
	vars := []string{"{token}"}
	if s.Provider.Static != nil && s.Provider.Static.Username != "" {
		vars = append(vars, "{username}")
	}
	used := false
	for i := range s.Inject {
		f.injection(at(path, i), &s.Inject[i], vars)
		f.subset(at(path, i)+".destinations", s.Inject[i].Destinations, s.Destinations)
		used = used || strings.Contains(s.Inject[i].Value+s.Inject[i].Basic, "{username}")
	}
	f.absent("spec.provider.static.username", len(vars) > 1 && !used, "unless spec.inject names {username}")
	f.coverage(s)
}

func (f *faults) injection(path string, in *Inject, vars []string) {
	kinds := 0
	for _, v := range []string{in.Header, in.Basic, in.Query} {
		if v != "" {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		f.add(Fault{path, "", "must have exactly one of header, basic and query", ""})
	case in.Basic != "":
		f.absent(path+".value", in.Value != "", "with basic, whose password is the token")
		f.basic(path+".basic", in.Basic, vars)
	case in.Header != "":
		f.header(path+".header", in.Header)
		f.template(path+".value", in.Value, vars)
	default:
		if strings.Trim(in.Query, queryName) != "" {
			f.bad(path+".query", in.Query, "must be letters, digits and -._~")
		}
		f.template(path+".value", in.Value, vars)
	}
	for i, h := range in.Remove {
		f.header(at(path+".remove", i), h)
	}
}

const queryName = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~"

// template checks a value into which the credential is put.
func (f *faults) template(path, value string, vars []string) {
	f.braces(path, value, vars)
	if !strings.Contains(value, "{token}") {
		f.add(Fault{path, value, "must hold {token}", `for example "Bearer {token}"`})
	}
}

// basic checks a user name, which may be {username} and not the token.
func (f *faults) basic(path, value string, vars []string) {
	f.braces(path, value, vars[1:])
	if strings.Contains(value, ":") {
		f.bad(path, value, "must not hold a colon (RFC 7617)")
	}
}

// braces checks that a template names nothing but vars and is fit for a header.
func (f *faults) braces(path, value string, vars []string) {
	if !printable(value) {
		f.bad(path, value, "must be printable, without line breaks")
		return
	}
	rest := value
	for _, v := range vars {
		rest = strings.ReplaceAll(rest, v, "")
	}
	switch {
	case strings.Contains(rest, "{username}"):
		f.add(Fault{path, value, "must not name {username}, which the provider does not have", "set provider.static.username"})
	case strings.ContainsAny(rest, "{}"):
		f.bad(path, value, "must hold no braces but {token} and {username}, each where it has a meaning")
	}
}

// header checks the name of a request header that egret sets or deletes.
func (f *faults) header(path, name string) {
	switch {
	case !httpToken(name):
		f.bad(path, name, "must be a header name (RFC 9110, 5.6.2)")
	case framing(name):
		f.bad(path, name, "must not be a header that frames or routes the message")
	}
}

// httpToken implements RFC 9110, 5.6.2.
func httpToken(s string) bool {
	return s != "" && len(s) <= 256 && strings.IndexFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	}) < 0
}

// spelling makes all spellings of a header equal that some server takes for the same
// (MUST H2).
func spelling(name string) string {
	return strings.ReplaceAll(strings.ToLower(name), "_", "-")
}

// framing reports hop-by-hop headers (RFC 9110, 7.6.1) and those that say where a
// message goes and where it ends.
func framing(name string) bool {
	s := spelling(name)
	switch s {
	case "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade",
		"host", "content-length", "expect":
		return true
	}
	return strings.HasPrefix(s, "proxy-") || strings.HasPrefix(s, "egret-")
}

// subset checks that a list names nothing but what the credential is bound to.
func (f *faults) subset(path string, list, of []string) {
	for i, d := range list {
		if !slices.Contains(of, d) {
			f.add(Fault{at(path, i), d, "must be one of spec.destinations", didYouMean(d, of)})
		}
	}
	f.distinct(path, list)
}

// coverage checks that each destination gets the credential, and no place twice.
func (f *faults) coverage(s *CredentialSpec) {
	for i, d := range s.Destinations {
		places := map[string]bool{}
		for j := range s.Inject {
			if !s.Inject[j].appliesTo(d) {
				continue
			}
			place := s.Inject[j].place()
			if places[place] {
				f.bad(at("spec.inject", j), place, "must not be set twice for destination "+d)
			}
			places[place] = true
		}
		if len(places) == 0 && len(s.Inject) > 0 {
			f.bad(at("spec.destinations", i), d, "must be named by an entry of spec.inject: the credential would not be put in")
		}
	}
}

func (in *Inject) appliesTo(destination string) bool {
	return len(in.Destinations) == 0 || slices.Contains(in.Destinations, destination)
}

// place names what an entry sets.
func (in *Inject) place() string {
	switch {
	case in.Basic != "":
		return "header authorization"
	case in.Header != "":
		return "header " + spelling(in.Header)
	}
	return "query " + in.Query
}
