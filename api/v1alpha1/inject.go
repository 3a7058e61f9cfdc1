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
	t := s.Provider.traits()
	if len(s.Inject) == 0 && !t.certificate {
		f.add(Fault{path, "", "is required", `set a header: {header: Authorization, value: "Bearer {token}"}`})
	}
	used := false
	for i := range s.Inject {
		f.injection(at(path, i), &s.Inject[i], t)
		f.subset(at(path, i)+".destinations", s.Inject[i].Destinations, s.Destinations)
		used = used || strings.Contains(s.Inject[i].Value+s.Inject[i].Basic, "{username}")
	}
	if p := s.Provider.Static; p != nil {
		f.absent("spec.provider.static.username", p.Username != "" && !used, "unless spec.inject names {username}")
	}
	f.coverage(s, t)
}

func (f *faults) injection(path string, in *Inject, t traits) {
	vars, kinds := t.placeholders(), 0
	if in.SigV4 != nil {
		kinds++
	}
	for _, v := range []string{in.Header, in.Basic, in.Query} {
		if v != "" {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		f.add(Fault{path, "", "must have exactly one of header, basic, query and sigv4", ""})
	case in.SigV4 != nil:
		f.sigV4(path, in, t)
	case t.signs && strings.Contains(in.Value, "{"):
		f.add(Fault{path + ".value", in.Value, "must hold no braces: AWS keys are never put into a request", "sign it: inject: [{sigv4: {service: s3, region: eu-central-1}}]"})
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

// template checks a value. A header may also hold a constant: coverage sees to it that
// another entry carries the credential.
func (f *faults) template(path, value string, vars []string) {
	if value == "" && len(vars) == 0 {
		f.bad(path, value, "must be set: what the provider gives cannot be put in here, but a constant can")
		return
	}
	if value == "" {
		f.add(Fault{path, value, "must hold " + alternatives(vars), `for example "Bearer ` + vars[0] + `"`})
		return
	}
	f.braces(path, value, vars)
}

func alternatives(vars []string) string { return strings.Join(vars, " or ") }

// basic checks a user name, which may be {username} and not the token.
func (f *faults) basic(path, value string, vars []string) {
	if !slices.Contains(vars, "{token}") {
		f.bad(path, value, "must be absent where the provider gives no {token}, which is the password")
		return
	}
	f.braces(path, value, slices.DeleteFunc(slices.Clone(vars), func(v string) bool { return v == "{token}" }))
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
		f.bad(path, value, noOtherBraces(vars))
	}
}

func noOtherBraces(vars []string) string {
	if len(vars) == 0 {
		return "must hold no braces: nothing can be put in here"
	}
	return "must hold no braces but " + alternatives(vars)
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
func (f *faults) coverage(s *CredentialSpec, t traits) {
	for i, d := range s.Destinations {
		places, carried := map[string]bool{}, t.certificate
		for j := range s.Inject {
			if !s.Inject[j].appliesTo(d) {
				continue
			}
			place := s.Inject[j].place()
			if places[place] {
				f.bad(at("spec.inject", j), place, "must not be set twice for destination "+d)
			}
			places[place], carried = true, carried || s.Inject[j].carries()
		}
		if !carried && len(s.Inject) > 0 {
			f.bad(at("spec.destinations", i), d, "must be named by an entry of spec.inject that holds "+t.carriers()+": the credential would not be put in")
		}
	}
}

// carries reports whether an entry puts in what the provider gives, or was meant to, and
// not a constant.
func (in *Inject) carries() bool {
	return in.SigV4 != nil || in.Basic != "" || in.Value == "" || strings.ContainsAny(in.Value, "{}")
}

func (in *Inject) appliesTo(destination string) bool {
	return len(in.Destinations) == 0 || slices.Contains(in.Destinations, destination)
}

// place names what an entry sets.
func (in *Inject) place() string {
	switch {
	case in.Basic != "", in.SigV4 != nil:
		return "header authorization"
	case in.Header != "":
		return "header " + spelling(in.Header)
	}
	return "query " + in.Query
}
