// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

var (
	now   = time.Date(2027, 1, 4, 6, 0, 0, 0, time.UTC)
	later = now.AddDate(0, 3, 0)
	past  = now.Add(-time.Hour)
)

const evidence = "x509-svid"

func id(s string) spiffeid.ID { return spiffeid.RequireFromString("spiffe://acme.example" + s) }

type schedule bool

func (s schedule) Active(time.Time) bool { return bool(s) }

// world is a small set with one of everything.
type world struct {
	job, ext, pinned, watch, late *Workload
	slack, gitlab, bank, lit      *Destination
	set                           Set
}

func newWorld() *world {
	mk := func(name string) *Workload { return &Workload{Name: name, Evidence: []string{evidence}} }
	w := &world{job: mk("job"), ext: mk("ext"), pinned: mk("pinned"), watch: mk("watch"), late: mk("late")}
	w.late.Schedule = schedule(false)
	w.slack = &Destination{Name: "slack", Hosts: []string{"slack.com", "*.slack.com"}, Ports: []uint16{443}, Intercept: true}
	w.gitlab = &Destination{Name: "gitlab", Hosts: []string{"gitlab.com"}, Ports: []uint16{443, 8443}, Intercept: true}
	w.bank = &Destination{Name: "bank", Hosts: []string{"bank.example"}, Ports: []uint16{443}}
	w.lit = &Destination{Name: "literal", Hosts: []string{"192.0.2.1"}, Ports: []uint16{443}}
	w.set = Set{
		Bindings: []Binding{
			{"spiffe://acme.example/job", w.job}, {"spiffe://acme.example/ns/*/sa/ext", w.ext},
			{"spiffe://acme.example/pinned", w.pinned}, {"spiffe://acme.example/watch", w.watch}, {"spiffe://acme.example/late", w.late},
		},
		Destinations: []*Destination{w.slack, w.gitlab, w.bank, w.lit},
		Digest:       "d",
	}
	w.add("post", w.job, w.slack, "/api/chat.postMessage", "POST")
	w.add("any", w.job, w.slack, "/api/*/info", "GET")
	w.add("ended", w.job, w.slack, "/old/**", "GET").Expires = past
	w.add("projects", w.job, w.gitlab, "/api/v4/projects/*", "GET").Encoded = true
	w.add("groups", w.job, w.gitlab, "/api/v4/groups/*", "GET")
	w.add("ops", w.job, w.gitlab, "/api/graphql", "POST").Operations = []string{"query.issues"}
	w.add("all", w.ext, w.slack, "/**")
	w.add("late", w.late, w.slack, "/**")
	w.add("w1", w.watch, w.slack, "/api/**", "GET").Observe = true
	w.tunnel("t", w.pinned, w.bank).Expires = later
	w.tunnel("lit", w.pinned, w.lit).Expires = later
	w.tunnel("old", w.job, w.bank).Expires = past
	w.tunnel("late", w.late, w.bank).Expires = later
	return w
}

func (w *world) add(policy string, wl *Workload, d *Destination, path string, methods ...string) *Rule {
	r := &Rule{Policy: policy, Workload: wl, Destination: d, PathTemplate: path, Methods: methods, Expires: later}
	w.set.Rules = append(w.set.Rules, r)
	return r
}

func (w *world) tunnel(policy string, wl *Workload, d *Destination) *Rule {
	r := &Rule{Policy: policy, Workload: wl, Destination: d, PathTemplate: "/**"}
	w.set.Tunnels = append(w.set.Tunnels, r)
	return r
}

func at(host string) Target { return Target{host, 443} }

func TestConnect(t *testing.T) {
	w := newWorld()
	closed := New(w.set)
	w.set.UnlistedTunnel = true
	open := New(w.set)
	for name, c := range map[string]struct {
		p    *Policy
		id   string
		ev   string
		to   Target
		want Verdict
		why  Reason
	}{
		"listed":                       {closed, "/job", evidence, at("slack.com"), Allow, ""},
		"one label below the wildcard": {closed, "/job", evidence, at("a.slack.com"), Allow, ""},
		"two labels below":             {closed, "/job", evidence, at("a.b.slack.com"), Deny, ReasonUnlistedHost},
		"no rule, refused inside":      {closed, "/pinned", evidence, at("slack.com"), Allow, ""},
		"weak evidence, inside too":    {closed, "/job", "token", at("slack.com"), Allow, ""},
		"pattern":                      {closed, "/ns/qa/sa/ext", evidence, at("slack.com"), Allow, ""},
		"pattern, longer":              {closed, "/ns/qa/x/sa/ext", evidence, at("slack.com"), Deny, ReasonUnknownWorkload},
		"unknown":                      {closed, "/nobody", evidence, at("slack.com"), Deny, ReasonUnknownWorkload},
		"other port":                   {closed, "/job", evidence, Target{"slack.com", 80}, Deny, ReasonUnlistedHost},
		"second port":                  {closed, "/job", evidence, Target{"gitlab.com", 8443}, Allow, ""},
		"unlisted":                     {closed, "/job", evidence, at("evil.example"), Deny, ReasonUnlistedHost},
		"no host":                      {closed, "/job", evidence, Target{}, Deny, ReasonUnlistedHost},
		"tunnel":                       {closed, "/pinned", evidence, at("bank.example"), Tunnel, ""},
		"tunnel, none granted":         {closed, "/ns/qa/sa/ext", evidence, at("bank.example"), Deny, ReasonNoPolicy},
		"tunnel, ended":                {closed, "/job", evidence, at("bank.example"), Deny, ReasonExpired},
		"tunnel, weak":                 {closed, "/pinned", "token", at("bank.example"), Deny, ReasonWeakEvidence},
		"tunnel, none":                 {closed, "/pinned", "", at("bank.example"), Deny, ReasonWeakEvidence},
		"tunnel, schedule":             {closed, "/late", evidence, at("bank.example"), Deny, ReasonOutsideSchedule},
		"open":                         {open, "/job", evidence, at("other.example"), Tunnel, ""},
		"open, weak":                   {open, "/job", "token", at("other.example"), Deny, ReasonWeakEvidence},
		"open, schedule":               {open, "/late", evidence, at("other.example"), Deny, ReasonOutsideSchedule},
		"open, unknown":                {open, "/nobody", evidence, at("other.example"), Deny, ReasonUnknownWorkload},
		"open, literal":                {open, "/job", evidence, at("192.0.2.7"), Deny, ReasonUnlistedHost},
		"open, IPv6 literal":           {open, "/job", evidence, at("2001:db8::1"), Deny, ReasonUnlistedHost},
		"open, listed on other port":   {open, "/job", evidence, Target{"slack.com", 22}, Deny, ReasonUnlistedHost},
		"open, no host":                {open, "/job", evidence, Target{"", 443}, Deny, ReasonUnlistedHost},
		"open, listed":                 {open, "/job", evidence, at("slack.com"), Allow, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := c.p.Connect(id(c.id), c.ev, c.to, now)
			if a.Verdict != c.want || a.Reason != c.why {
				t.Errorf("got %v %q, want %v %q", a.Verdict, a.Reason, c.want, c.why)
			}
			if (a.Workload == nil) != (a.Reason == ReasonUnknownWorkload) {
				t.Errorf("workload %v with reason %q", a.Workload, a.Reason)
			}
			if a.Verdict != Deny && (a.Destination == nil) != (c.p.Destination(c.to) == nil) {
				t.Errorf("destination %v", a.Destination)
			}
			if (a.Rule != nil) != (a.Verdict == Tunnel && a.Destination != nil) {
				t.Errorf("rule %v", a.Rule)
			}
		})
	}
}

func TestMUST_T6_IPLiteralsOnlyWhereListedAndNeverIntercepted(t *testing.T) {
	w := newWorld()
	w.set.UnlistedTunnel = true
	if a := New(w.set).Connect(id("/pinned"), evidence, at("192.0.2.1"), now); a.Verdict != Tunnel || a.Rule == nil {
		t.Errorf("listed literal: %+v", a)
	}
	w.lit.Intercept = true
	p := New(w.set)
	if a := p.Connect(id("/pinned"), evidence, at("192.0.2.1"), now); a.Verdict != Deny || a.Reason != ReasonUnlistedHost {
		t.Errorf("intercepted literal: %+v", a)
	}
	w.add("x", w.pinned, w.lit, "/**")
	if d := New(w.set).Request(Request{ID: id("/pinned"), Evidence: evidence, Target: at("192.0.2.1"), Method: "GET", Path: "/", At: now}); d.Verdict != Deny {
		t.Errorf("request to a literal: %+v", d)
	}
}

func TestRequest(t *testing.T) {
	w := newWorld()
	for name, c := range map[string]struct {
		id, host, method, path string
		change                 func(*Request)
		rule                   string // of the decision; "" denies
		why                    Reason
	}{
		"allowed":               {"/job", "slack.com", "POST", "/api/chat.postMessage", nil, "post", ""},
		"escaped letter":        {"/job", "slack.com", "POST", "/api/%63hat.postMessage", nil, "post", ""},
		"one segment":           {"/job", "slack.com", "GET", "/api/users/info", nil, "any", ""},
		"not two":               {"/job", "slack.com", "GET", "/api/users/x/info", nil, "", ReasonPathNotAllowed},
		"case":                  {"/job", "slack.com", "POST", "/API/chat.postMessage", nil, "", ReasonPathNotAllowed},
		"trailing slash":        {"/job", "slack.com", "POST", "/api/chat.postMessage/", nil, "", ReasonPathNotAllowed},
		"prefix":                {"/job", "slack.com", "POST", "/api", nil, "", ReasonPathNotAllowed},
		"method":                {"/job", "slack.com", "GET", "/api/chat.postMessage", nil, "", ReasonMethodNotAllowed},
		"HEAD is not GET":       {"/job", "slack.com", "HEAD", "/api/users/info", nil, "", ReasonMethodNotAllowed},
		"lower-case method":     {"/job", "slack.com", "post", "/api/chat.postMessage", nil, "", ReasonMethodNotAllowed},
		"ended":                 {"/job", "slack.com", "GET", "/old/x", nil, "", ReasonExpired},
		"ended, other method":   {"/job", "slack.com", "PUT", "/old/x", nil, "", ReasonMethodNotAllowed},
		"last instant":          {"/job", "slack.com", "GET", "/old/x", func(r *Request) { r.At = past.Add(-1) }, "ended", ""},
		"first instant after":   {"/job", "slack.com", "GET", "/old/x", func(r *Request) { r.At = past }, "", ReasonExpired},
		"dot segment":           {"/job", "slack.com", "GET", "/old/../api", nil, "", ReasonAmbiguousPath},
		"no path":               {"/job", "slack.com", "GET", "", nil, "", ReasonAmbiguousPath},
		"path before evidence":  {"/job", "slack.com", "GET", "//", func(r *Request) { r.Evidence = "token" }, "", ReasonAmbiguousPath},
		"weak":                  {"/job", "slack.com", "POST", "/api/chat.postMessage", func(r *Request) { r.Evidence = "token" }, "", ReasonWeakEvidence},
		"schedule":              {"/late", "slack.com", "POST", "/", nil, "", ReasonOutsideSchedule},
		"encoded":               {"/job", "gitlab.com", "GET", "/api/v4/projects/g%2Fp", nil, "projects", ""},
		"encoded rule, plain":   {"/job", "gitlab.com", "GET", "/api/v4/projects/7", nil, "projects", ""},
		"encoded, hidden dots":  {"/job", "gitlab.com", "GET", "/api/v4/projects/..%2Fp", nil, "", ReasonAmbiguousPath},
		"encoded, strict rule":  {"/job", "gitlab.com", "GET", "/api/v4/groups/g%2Fp", nil, "", ReasonAmbiguousPath},
		"encoded, method":       {"/job", "gitlab.com", "PUT", "/api/v4/projects/g%2Fp", nil, "", ReasonMethodNotAllowed},
		"encoded is no slash":   {"/job", "gitlab.com", "GET", "/api/v4%2Fprojects/7", nil, "", ReasonAmbiguousPath},
		"operation":             {"/job", "gitlab.com", "POST", "/api/graphql", func(r *Request) { r.Operations, r.Read = []string{"query.issues"}, true }, "ops", ""},
		"other operation":       {"/job", "gitlab.com", "POST", "/api/graphql", func(r *Request) { r.Operations, r.Read = []string{"mutation.x"}, true }, "", ReasonOperationNotAllowed},
		"no operation":          {"/job", "gitlab.com", "POST", "/api/graphql", nil, "", ReasonOperationNotAllowed},
		"all methods":           {"/ns/qa/sa/ext", "x.slack.com", "PROPFIND", "/", nil, "all", ""},
		"no policy":             {"/pinned", "slack.com", "GET", "/", nil, "", ReasonNoPolicy},
		"another's policy":      {"/pinned", "slack.com", "POST", "/api/chat.postMessage", nil, "", ReasonNoPolicy},
		"unknown":               {"/nobody", "slack.com", "GET", "/", nil, "", ReasonUnknownWorkload},
		"unlisted":              {"/job", "evil.example", "GET", "/", nil, "", ReasonUnlistedHost},
		"port":                  {"/job", "slack.com", "GET", "/", func(r *Request) { r.Target.Port = 80 }, "", ReasonUnlistedHost},
		"inside a tunnel":       {"/pinned", "bank.example", "GET", "/", nil, "", ReasonNoPolicy},
		"trust domain only":     {"", "slack.com", "GET", "/", nil, "", ReasonUnknownWorkload},
		"zero ID":               {"/job", "slack.com", "GET", "/", func(r *Request) { r.ID = spiffeid.ID{} }, "", ReasonUnknownWorkload},
		"another trust domain":  {"/job", "slack.com", "GET", "/", func(r *Request) { r.ID = spiffeid.RequireFromString("spiffe://evil.example/job") }, "", ReasonUnknownWorkload},
		"pattern's other tail":  {"/ns/qa/sa/job", "slack.com", "GET", "/", nil, "", ReasonUnknownWorkload},
		"hand-made empty label": {"/job", ".slack.com", "GET", "/", nil, "", ReasonUnlistedHost},
	} {
		t.Run(name, func(t *testing.T) {
			r := Request{ID: id(c.id), Evidence: evidence, Target: at(c.host), Method: c.method, Path: c.path, At: now}
			if c.change != nil {
				c.change(&r)
			}
			d := New(w.set).Request(r)
			got := ""
			if d.Rule != nil {
				got = d.Rule.Policy
			}
			if got != c.rule || d.Reason != c.why || (d.Verdict == Allow) != (c.rule != "") || d.Observed {
				t.Errorf("got %v by %q, %q; want %q, %q", d.Verdict, got, d.Reason, c.rule, c.why)
			}
		})
	}
}

func TestMostSpecificTemplateDecides(t *testing.T) {
	w := newWorld()
	for _, tpl := range []string{"/**", "/*/x", "/a/**", "/a/*", "/a/x", "/a/*/z", "/*/b/z"} {
		w.add(tpl, w.pinned, w.slack, tpl, "GET")
	}
	w.add("/a/x gone", w.pinned, w.slack, "/a/gone", "GET").Expires = past
	w.add("/a/x PUT", w.pinned, w.slack, "/a/put", "PUT")
	for path, want := range map[string]string{
		"/": "/**", "/q": "/**", "/q/x": "/*/x", "/a/x": "/a/x", "/a/y": "/a/*", "/a/": "/a/**", "/a": "/**",
		"/a/b/z": "/a/*/z", "/a/b/c": "/a/**", "/q/b/z": "/*/b/z", "/q/b/c": "/**",
		"/a/gone": "/a/*", "/a/put": "/a/*", // what does not grant does not stand in the way of what does
	} {
		d := New(w.set).Request(Request{ID: id("/pinned"), Evidence: evidence, Target: at("slack.com"), Method: "GET", Path: path, At: now})
		if d.Verdict != Allow || d.Rule.Policy != want {
			t.Errorf("%q decided by %+v, want %q", path, d.Rule, want)
		}
	}
}

func TestEqualRulesDecideByEndNotByOrder(t *testing.T) {
	w := newWorld()
	w.add("b", w.pinned, w.slack, "/x", "GET")
	w.add("a", w.pinned, w.slack, "/x", "GET")
	w.add("longer", w.pinned, w.slack, "/y", "GET").Expires = later.Add(1)
	w.add("a", w.pinned, w.slack, "/y", "GET")
	w.add("any method", w.pinned, w.slack, "/z").Expires = later.Add(1)
	w.add("method", w.pinned, w.slack, "/z", "GET")
	ask := func(path string) string {
		return New(w.set).Request(Request{ID: id("/pinned"), Evidence: evidence, Target: at("slack.com"), Method: "GET", Path: path, At: now}).Rule.Policy
	}
	if got := []string{ask("/x"), ask("/y"), ask("/z")}; !cmp.Equal(got, []string{"a", "longer", "method"}) {
		t.Errorf("decided by %v", got)
	}
}

func TestObserve(t *testing.T) {
	w := newWorld()
	ask := func(path, ev string, at time.Time) Decision {
		return New(w.set).Request(Request{ID: id("/watch"), Evidence: ev, Target: Target{"slack.com", 443}, Method: "GET", Path: path, At: at})
	}
	for name, c := range map[string]struct {
		d        Decision
		verdict  Verdict
		why      Reason
		observed bool
	}{
		"matches":       {ask("/api/x", evidence, now), Allow, "", true},
		"matches not":   {ask("/else", evidence, now), Deny, ReasonPathNotAllowed, true},
		"weak evidence": {ask("/api/x", "token", now), Deny, ReasonWeakEvidence, true},
		"ambiguous":     {ask("/api//x", evidence, now), Deny, ReasonAmbiguousPath, true},
		"ended":         {ask("/api/x", evidence, later), Deny, ReasonExpired, false},
		"ended, no":     {ask("/else", evidence, later), Deny, ReasonPathNotAllowed, false},
	} {
		if c.d.Verdict != c.verdict || c.d.Reason != c.why || c.d.Observed != c.observed || (c.d.Rule != nil) != c.observed {
			t.Errorf("%s: %+v", name, c.d)
		}
	}
	w.add("enforced", w.watch, w.slack, "/api/x", "GET")
	if d := ask("/api/x", evidence, now); d.Observed || d.Rule.Policy != "enforced" {
		t.Errorf("the more specific rule enforces, got %+v", d)
	}
	if d := ask("/api/y", evidence, now); !d.Observed || d.Verdict != Allow {
		t.Errorf("the observing rule still covers the rest, got %+v", d)
	}
	if d := ask("/else", evidence, now); d.Observed || d.Verdict != Deny || d.Rule != nil {
		t.Errorf("one enforcing rule ends the observation of what no rule covers, got %+v", d)
	}
}

func TestMUST_P3_TheZeroPolicyDenies(t *testing.T) {
	target, rid := at("slack.com"), id("/job")
	for name, p := range map[string]*Policy{"nil": nil, "zero": {}} {
		if a := p.Connect(rid, evidence, target, now); a != (Admission{Reason: ReasonNotLoaded}) {
			t.Errorf("%s: Connect gives %+v", name, a)
		}
		r := Request{ID: rid, Evidence: evidence, Target: target, Method: "GET", Path: "/", At: now}
		if d := p.Request(r); d != (Decision{Reason: ReasonNotLoaded}) {
			t.Errorf("%s: Request gives %+v", name, d)
		}
		x := p.Explain(r)
		if x.Decision.Reason != ReasonNotLoaded || x.Why != "no policy is loaded" {
			t.Errorf("%s: Explain gives %+v", name, x)
		}
		if p.Digest() != "" || p.Workload(rid) != nil || p.Destination(target) != nil || p.Destinations() != nil || p.Rules() != nil || p.Bindings() != nil {
			t.Errorf("%s: knows something", name)
		}
	}
	if a := New(Set{}).Connect(rid, evidence, target, now); a.Verdict != Deny || a.Reason != ReasonUnknownWorkload {
		t.Errorf("the empty set gives %+v", a)
	}
	var d Decision
	var a Admission
	if d.Verdict != Deny || a.Verdict != Deny || Verdict(7).String() != "deny" {
		t.Error("a zero answer does not deny")
	}
	var w Workload
	if w.refuses("", now) == "" || (&Rule{}).live(now) {
		t.Error("the zero Workload or Rule grants")
	}
}

func TestNewLeavesOutWhatItCannotUse(t *testing.T) {
	w := newWorld()
	w.set.Bindings = append(w.set.Bindings, Binding{"not an ID", w.job}, Binding{"spiffe://acme.example/nil", nil}, Binding{"spiffe://acme.example/job", w.ext})
	w.add("bad", w.pinned, w.slack, "no slash")
	p := New(w.set)
	if p.Workload(id("/job")) != w.job || p.Workload(id("/nil")) != nil {
		t.Error("a later or empty binding won")
	}
	if d := p.Request(Request{ID: id("/pinned"), Evidence: evidence, Target: at("slack.com"), Method: "GET", Path: "/", At: now}); d.Reason != ReasonPathNotAllowed {
		t.Errorf("got %+v", d)
	}
}

func TestListsBelongToTheCaller(t *testing.T) {
	p := New(newWorld().set)
	p.Rules()[0], p.Destinations()[0], p.Bindings()[0] = nil, nil, Binding{}
	if p.Rules()[0] == nil || p.Destinations()[0] == nil || p.Bindings()[0].Workload == nil {
		t.Error("a returned list is the policy's own")
	}
	if p.Digest() != "d" || len(p.Rules()) != 13 {
		t.Errorf("digest %q, %d rules", p.Digest(), len(p.Rules()))
	}
}

func TestReasonsAndVerdictsAreWords(t *testing.T) {
	if r := ReasonPathNotAllowed; r.Layer() != "policy" || r.Code() != "path_not_allowed" {
		t.Errorf("%q splits into %q and %q", r, r.Layer(), r.Code())
	}
	if got := []string{Deny.String(), Tunnel.String(), Allow.String()}; !cmp.Equal(got, []string{"deny", "tunnel", "allow"}) {
		t.Error(got)
	}
}
