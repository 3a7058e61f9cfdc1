// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"net/textproto"
	"slices"
	"strings"
	"time"

	"github.com/egret-proxy/egret/policy"
	"github.com/egret-proxy/egret/policy/minting"
)

const (
	credentialNone = "none"
	modeObserve    = "observe"
)

// Validate returns everything that is wrong within the object.
func (x *AccessPolicy) Validate() []Fault {
	var f faults
	f.head(x.APIVersion, x.Kind, KindAccessPolicy)
	f.name("metadata.name", x.Metadata.Name)
	f.line("spec.owner", x.Spec.Owner)
	f.name("spec.workload", x.Spec.Workload)
	f.name("spec.destination", x.Spec.Destination)
	if x.Spec.Credential != "" {
		f.name("spec.credential", x.Spec.Credential)
	}
	for i := range x.Spec.Allow {
		f.allow(at("spec.allow", i), &x.Spec.Allow[i])
	}
	f.dates(&x.Spec)
	f.oneOf("spec.mode", x.Spec.Mode, "", "enforce", modeObserve)
	f.upgrade(x.Spec.Upgrade)
	f.allowHeaders(x.Spec.AllowHeaders)
	f.allowQuery(x.Spec.AllowQuery)
	f.minting(x.Spec.Minting)
	f.duration("spec.maxStream", x.Spec.MaxStream, span{time.Second, 365 * 24 * time.Hour})
	return f
}

func (f *faults) allow(path string, a *Allow) {
	if len(a.Methods) == 0 {
		f.bad(path+".methods", "", "is required")
	}
	for i, m := range a.Methods {
		f.method(at(path+".methods", i), m)
	}
	f.distinct(path+".methods", a.Methods)
	if len(a.Paths) == 0 {
		f.add(Fault{path + ".paths", "", "is required", "/** stands for every path"})
	}
	for i, p := range a.Paths {
		f.wrong(at(path+".paths", i), p, policy.CheckTemplate(p, a.Encoded))
	}
	f.distinct(path+".paths", a.Paths)
	for i, op := range a.Operations {
		f.wrong(at(path+".operations", i), op, policy.CheckOperation(op))
	}
	f.distinct(path+".operations", a.Operations)
}

func (f *faults) method(path, m string) {
	switch {
	case m == "CONNECT" || m == "TRACE" || m == "TRACK":
		f.bad(path, m, "must not be CONNECT, TRACE or TRACK, which are always refused")
	case m == "*" || strings.EqualFold(m, "ANY") || strings.EqualFold(m, "ALL"):
		f.add(Fault{path, m, "must name a method", "list the methods that are needed: GET, HEAD, POST, …"})
	case !httpToken(m):
		f.bad(path, m, "must be a method (RFC 9110, 9.1)")
	case m != strings.ToUpper(m):
		f.add(Fault{path, m, "must be upper case", "did you mean " + strings.ToUpper(m) + "?"})
	}
}

func (f *faults) dates(s *AccessPolicySpec) {
	if s.Expires == "" {
		f.add(Fault{"spec.expires", "", "is required: no grant is for ever", "write it as 2027-03-31"})
	}
	expires, review := f.date("spec.expires", s.Expires), f.date("spec.reviewBy", s.ReviewBy)
	if !expires.IsZero() && review.After(expires) {
		f.bad("spec.reviewBy", s.ReviewBy, "must be at or before spec.expires, "+s.Expires)
	}
}

func (f *faults) upgrade(list *[]string) {
	if list == nil {
		return
	}
	for i, u := range *list {
		path := at("spec.upgrade", i)
		switch {
		case !httpToken(u) || u != strings.ToLower(u):
			f.bad(path, u, "must be the name of a protocol in lower case")
		case strings.HasPrefix(u, "h2") || strings.HasPrefix(u, "tls") || strings.HasPrefix(u, "http") || strings.HasPrefix(u, "connect"):
			f.bad(path, u, "must not be a protocol that carries further requests past the policy")
		}
	}
	f.distinct("spec.upgrade", *list)
}

func (f *faults) allowHeaders(list []string) {
	var seen []string
	for i, h := range list {
		path := at("spec.allowHeaders", i)
		f.header(path, h)
		if credentialHeader(h) {
			f.add(Fault{path, h, "must not be a header that carries a credential", "a Credential puts it in"})
		}
		seen = append(seen, spelling(h))
	}
	f.distinct("spec.allowHeaders", seen)
}

func (f *faults) allowQuery(list []string) {
	for i, name := range list {
		if strings.Trim(name, queryName+"$") != "" || name == "" {
			f.bad(at("spec.allowQuery", i), name, "must be letters, digits and -._~$")
		}
	}
	f.distinct("spec.allowQuery", list)
}

// minting checks the ids of calls that hand out secrets.
func (f *faults) minting(list []string) {
	if len(list) == 0 {
		return
	}
	known := minting.Builtin()
	for i, id := range list {
		if !known.Knows(id) {
			f.add(Fault{at("spec.minting", i), id, "must be the id of a call that hands out a secret", didYouMean(id, known.IDs())})
		}
	}
	f.distinct("spec.minting", list)
}

// credentialHeader reports headers that only a Credential may set (MUST H2).
func credentialHeader(name string) bool {
	switch spelling(name) {
	case "authorization", "x-api-key", "api-key", "token", "x-auth-token", "dd-api-key",
		"dd-application-key", "x-vault-token", "private-token", "job-token", "x-amz-security-token",
		"x-goog-api-key", "x-snowflake-authorization-token-type":
		return true
	}
	return false
}

// canonicalHeaders returns the names as net/http spells them.
func canonicalHeaders(list []string) []string {
	var out []string
	for _, h := range list {
		out = append(out, textproto.CanonicalMIMEHeaderKey(h))
	}
	return out
}

// rules makes the rules of a valid AccessPolicy from a template that holds what all of
// them have in common.
func (x *AccessPolicy) rules(common policy.Rule) []*policy.Rule {
	var f faults // of a valid object none arise
	common.Policy, common.Owner = x.Metadata.Name, x.Spec.Owner
	common.Expires, common.ReviewBy = f.date("", x.Spec.Expires), f.date("", x.Spec.ReviewBy)
	common.AllowHeaders = canonicalHeaders(x.Spec.AllowHeaders)
	common.AllowQuery, common.Minting = slices.Clone(x.Spec.AllowQuery), slices.Clone(x.Spec.Minting)
	common.Observe = x.Spec.Mode == modeObserve
	common.Upgrade = []string{"websocket"}
	if x.Spec.Upgrade != nil {
		common.Upgrade = slices.Clone(*x.Spec.Upgrade)
	}
	if r := x.Spec.Responses; r != nil {
		common.SetCookie, common.WWWAuth, common.Mask = r.SetCookie, r.WWWAuthenticate, r.Mask
	}
	if d, err := time.ParseDuration(x.Spec.MaxStream); err == nil {
		common.MaxStream = d
	}
	if len(x.Spec.Allow) == 0 { // a tunnel
		common.PathTemplate = "/**"
		return []*policy.Rule{&common}
	}
	var out []*policy.Rule
	for _, a := range x.Spec.Allow {
		for _, p := range a.Paths {
			r := common
			r.PathTemplate, r.Methods, r.Encoded = p, slices.Clone(a.Methods), a.Encoded
			r.Operations = slices.Clone(a.Operations)
			out = append(out, &r)
		}
	}
	return out
}
