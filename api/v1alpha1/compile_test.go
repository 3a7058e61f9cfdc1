// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/egret-proxy/egret/policy"
)

func TestFaultsBetweenObjects(t *testing.T) {
	add := func(o ...Object) func(*fixture) { return func(f *fixture) { f.extra = o } }
	overlap := func(credential, mode string) func(*fixture) {
		return func(f *fixture) {
			p := newPolicy("second", "job", "slack", credential, Allow{Methods: []string{"POST", "PUT"}, Paths: []string{"/api/*"}})
			p.Spec.Mode, p.Spec.Expires = mode, "2020-01-01" // ended, and a contradiction all the same
			f.extra = []Object{{AccessPolicy: p}}
		}
	}
	runFaults(t, map[string]oneFault{
		"no kind":          {add(Object{}), iExtra, "kind", "exactly one kind"},
		"two kinds":        {add(Object{Workload: newWorkload("x", "spiffe://a/x"), Destination: newDestination("x", "x.de")}), iExtra, "kind", "exactly one kind"},
		"name twice":       {add(Object{Workload: newWorkload("job", "spiffe://acme.example/x")}), iExtra, "metadata.name", "unique for its kind"},
		"ID twice":         {add(Object{Workload: newWorkload("k", "spiffe://acme.example/ns/qa/sa/dashboard")}), iExtra, "spec.spiffeID", "another workload names"},
		"ID under pattern": {add(Object{Workload: newWorkload("t", "spiffe://acme.example/ns/team/sa/x")}), iExtra, "spec.spiffeID", "another workload names"},
		"ID patterns":      {add(Object{Workload: newWorkload("t", "spiffe://acme.example/ns/*/sa/x")}), iExtra, "spec.spiffeID", "another workload names"},
		"host twice":       {add(Object{Destination: newDestination("t", "slack.com")}), iExtra, "spec.hosts", "another destination lists"},
		"host, other port": {func(f *fixture) {
			d := newDestination("t", "GitHub.com.")
			d.Spec.Ports = []int{8443}
			f.extra = []Object{{Destination: d}}
		}, iExtra, "spec.hosts", "another destination lists"},
		"host under wildcard": {add(Object{Destination: newDestination("t", "a.slack.com")}), iSlack, "spec.hosts", "another destination lists"},
		"wildcard twice":      {add(Object{Destination: newDestination("t", "*.slack.com")}), iExtra, "spec.hosts", "another destination lists"},
		"no workload":         {func(f *fixture) { f.post.Spec.Workload = "jbo" }, iPost, "spec.workload", "must name a Workload that exists"},
		"no destination":      {func(f *fixture) { f.none.Spec.Destination = "slakc" }, iNone, "spec.destination", "must name a Destination that exists"},
		"no credential":       {func(f *fixture) { f.post.Spec.Credential = "bto" }, iPost, "spec.credential", "must name a Credential that exists"},
		"bound to nothing":    {func(f *fixture) { f.bot.Spec.Destinations = []string{"slack", "slakc"} }, iBot, "spec.destinations[1]", "must name a Destination that exists"},
		"usable by nobody":    {func(f *fixture) { f.bot.Spec.UsableBy = []string{"job", "jbo"} }, iBot, "spec.usableBy[1]", "must name a Workload that exists"},
		"bound to a tunnel":   {func(f *fixture) { f.bot.Spec.Destinations = []string{"slack", "bank"} }, iBot, "spec.destinations[1]", "intercepted destination"},
		"environment":         {func(f *fixture) { f.bot.Spec.Environment = "staging" }, iPost, "spec.credential", "environment of its workload"},
		"credential missing":  {func(f *fixture) { f.post.Spec.Credential = "" }, iPost, "spec.credential", "is required"},
		"allow missing":       {func(f *fixture) { f.post.Spec.Allow = nil }, iPost, "spec.allow", "is required"},
		"tunnel credential":   {func(f *fixture) { f.tunnel.Spec.Credential = "none" }, iTunnel, "spec.credential", "would be ignored"},
		"tunnel allow":        {func(f *fixture) { f.tunnel.Spec.Allow = f.post.Spec.Allow }, iTunnel, "spec.allow", "would be ignored"},
		"tunnel mode":         {func(f *fixture) { f.tunnel.Spec.Mode = "observe" }, iTunnel, "spec.mode", "would be ignored"},
		"tunnel upgrade":      {func(f *fixture) { f.tunnel.Spec.Upgrade = &[]string{} }, iTunnel, "spec.upgrade", "would be ignored"},
		"tunnel headers":      {func(f *fixture) { f.tunnel.Spec.AllowHeaders = []string{"X-A"} }, iTunnel, "spec.allowHeaders", "would be ignored"},
		"tunnel responses":    {func(f *fixture) { f.tunnel.Spec.Responses = &Responses{} }, iTunnel, "spec.responses", "would be ignored"},
		"header of ours":      {func(f *fixture) { f.bot.Spec.Inject[0].Header = "X-Bot"; f.post.Spec.AllowHeaders = []string{"x_bot"} }, iPost, "spec.allowHeaders[0]", "credential sets"},
		"other credential":    {overlap("none", ""), iExtra, "spec.allow", "another credential or mode"},
		"other mode":          {overlap("bot", "observe"), iExtra, "spec.allow", "another credential or mode"},
	})
}

func TestNoContradictionWhereNoRequestMeetsBoth(t *testing.T) {
	f := newFixture()
	for _, p := range []*AccessPolicy{
		newPolicy("same-answer", "job", "slack", "bot", Allow{Methods: []string{"POST"}, Paths: []string{"/api/**"}}),
		newPolicy("other-method", "job", "slack", "none", Allow{Methods: []string{"PUT"}, Paths: []string{"/api/**"}}),
		newPolicy("other-path", "job", "slack", "none", Allow{Methods: []string{"POST"}, Paths: []string{"/files"}}),
		newPolicy("other-workload", "scoped", "slack", "spiffe", Allow{Methods: []string{"POST"}, Paths: []string{"/api/**"}}),
	} {
		f.extra = append(f.extra, Object{AccessPolicy: p})
	}
	f.compile(t)
}

func TestMUST_G1_AnAuthorOfPolicyIsNotRoot(t *testing.T) {
	scoped := func(o Object) func(*fixture) {
		return func(f *fixture) {
			o.Scope = f.scope
			f.extra = []Object{o}
		}
	}
	f := newFixture()
	foreign := newPolicy("foreign", "job", "slack", "bot", f.post.Spec.Allow...)
	runFaults(t, map[string]oneFault{
		"destination":     {scoped(Object{Destination: newDestination("evil", "evil.example")}), iExtra, "kind", "must be Workload or AccessPolicy"},
		"credential":      {scoped(Object{Credential: newCredential("evil", "slack", f.static.Spec.Provider, Inject{Basic: "{username}"})}), iExtra, "kind", "must be Workload or AccessPolicy"},
		"foreign ID":      {scoped(Object{Workload: newWorkload("evil", "spiffe://acme.example/ns/pay/sa/x")}), iExtra, "spec.spiffeID", "within the scope"},
		"wider pattern":   {scoped(Object{Workload: newWorkload("evil", "spiffe://acme.example/ns/*/job/x")}), iExtra, "spec.spiffeID", "within the scope"},
		"shorter pattern": {scoped(Object{Workload: newWorkload("evil", "spiffe://acme.example/ns/*")}), iExtra, "spec.spiffeID", "within the scope"},
		"other domain":    {scoped(Object{Workload: newWorkload("evil", "spiffe://other.example/ns/team/sa/x")}), iExtra, "spec.spiffeID", "within the scope"},
		"foreign policy":  {scoped(Object{AccessPolicy: foreign}), iExtra, "spec.workload", "workload within the scope"},
		"headers":         {func(f *fixture) { f.byPattern.Spec.AllowHeaders = []string{"Sudo"} }, iByPattern, "spec.allowHeaders", "source that has a scope"},
		"observe":         {func(f *fixture) { f.byPattern.Spec.Mode = "observe" }, iByPattern, "spec.mode", "source that has a scope"},
		"responses":       {func(f *fixture) { f.byPattern.Spec.Responses = &Responses{SetCookie: true} }, iByPattern, "spec.responses", "source that has a scope"},
	})
}

func TestMUST_G1_ABrokenScopeHoldsNothing(t *testing.T) {
	f := newFixture()
	f.scope = []string{"spiffe://acme.example/ns/team*", "**", ""}
	c, faults := Compile(f.objects(), f.opt)
	if c != nil || len(faults) != 2 || faults[0].Path != "spec.spiffeID" || faults[1].Path != "spec.workload" {
		t.Errorf("got %+v", faults)
	}
}

func TestMUST_G2_ACredentialNeedsConsentAndDestination(t *testing.T) {
	runFaults(t, map[string]oneFault{
		"not usable":     {func(f *fixture) { f.bot.Spec.UsableBy = []string{"scoped"} }, iPost, "spec.credential", "must be usable by workload job"},
		"pattern misses": {func(f *fixture) { f.bot.Spec.UsableBy = []string{"spiffe://acme.example/ns/qa/sa/other"} }, iPost, "spec.credential", "must be usable"},
		"not bound": {func(f *fixture) {
			f.none.Spec.Destination, f.none.Spec.Credential = "github", "bot"
			f.clone.Spec.Credential = "none"
			f.clone.Spec.Allow = []Allow{{Methods: []string{"PUT"}, Paths: []string{"/x"}}}
		}, iNone, "spec.credential", "must be bound to destination github"},
		"part of a pattern":  {func(f *fixture) { f.spiffe.Spec.UsableBy = []string{"spiffe://acme.example/ns/team/sa/one"} }, iByPattern, "spec.credential", "must be usable by workload scoped"},
		"name from a scope":  {func(f *fixture) { f.spiffe.Spec.UsableBy = []string{"scoped"} }, iByPattern, "spec.credential", "must be usable by workload scoped"},
		"scoped, no consent": {func(f *fixture) { f.byPattern.Spec.Credential = "bot" }, iByPattern, "spec.credential", "must be usable by workload scoped"},
	})
	f := newFixture()
	f.bot.Spec.UsableBy = []string{"spiffe://acme.example/ns/*/sa/dashboard"}
	f.scope = nil // the platform's own workload may be named
	f.spiffe.Spec.UsableBy = []string{"scoped"}
	f.compile(t)
}

func TestMUST_G3_AllOrNothingWithAllFaults(t *testing.T) {
	f := newFixture()
	f.job.Spec.Owner, f.slack.Spec.Hosts[1], f.post.Spec.Expires = "", "*.com", ""
	f.bot.Spec.Environment = "staging"
	c, faults := Compile(f.objects(), f.opt)
	if c != nil {
		t.Error("a set with faults compiled")
	}
	var objects []int
	for _, x := range faults {
		objects = append(objects, x.Object)
	}
	if !slices.IsSorted(objects) || !cmp.Equal(slices.Compact(slices.Clone(objects)), []int{iJob, iSlack, iPost}) || len(faults) != 5 {
		t.Errorf("got %+v", faults)
	}
}

func TestMUST_I12_BearerEvidenceIsNotInTheDefault(t *testing.T) {
	f := newFixture()
	p := policy.New(f.compile(t).Set)
	r := request("/ns/qa/sa/dashboard", "slack.com", "POST", "/api/chat.postMessage")
	for kind, want := range map[string]policy.Reason{"sidecar": "", "process": "", "pod": "", "x509-svid": "",
		"jwt-svid": policy.ReasonWeakEvidence, "token": policy.ReasonWeakEvidence, "": policy.ReasonWeakEvidence} {
		if r.Evidence = kind; p.Request(r).Reason != want {
			t.Errorf("evidence %q: %+v", kind, p.Request(r))
		}
	}
	f.job.Spec.Evidence = []string{"jwt-svid"}
	p = policy.New(f.compile(t).Set)
	for kind, want := range map[string]policy.Verdict{"jwt-svid": policy.Allow, "sidecar": policy.Deny} {
		if r.Evidence = kind; p.Request(r).Verdict != want {
			t.Errorf("evidence %q where only jwt-svid is listed: %+v", kind, p.Request(r))
		}
	}
}

func TestMUST_T6_TunnelsAndLiteralsFromObjects(t *testing.T) {
	p := policy.New(newFixture().compile(t).Set)
	for host, want := range map[string]policy.Verdict{"bank.example": policy.Tunnel, "192.0.2.1": policy.Tunnel, "192.0.2.2": policy.Deny, "slack.com": policy.Allow} {
		if a := p.Connect(id("/ns/qa/sa/dashboard"), "sidecar", policy.Target{Host: host, Port: 443}, day(2027, 1, 4)); a.Verdict != want {
			t.Errorf("%s: %+v", host, a)
		}
	}
}

func TestRulesCarryEverythingThatTheDataPathNeeds(t *testing.T) {
	f := newFixture()
	f.post.Spec.ReviewBy, f.post.Spec.MaxStream = "2027-01-31", "10m"
	f.post.Spec.AllowHeaders = []string{"x-http-method-override"}
	f.post.Spec.Responses = &Responses{SetCookie: true}
	f.clone.Spec.Upgrade = &[]string{}
	f.slack.Spec.TLS, f.slack.Spec.Refused = &DestinationTLS{"ca.pem"}, &Refused{JSON: map[string][]string{"ok": {"false"}}}
	f.slack.Spec.Ports, f.slack.Spec.AllowPrivate, f.slack.Spec.Dial = []int{443, 9443}, []string{"10.0.0.0/8"}, "127.0.0.1:9443"
	c := f.compile(t)
	p := policy.New(c.Set)
	r := p.Request(request("/ns/qa/sa/dashboard", "x.slack.com", "POST", "/api/files/a/b")).Rule
	if r == nil || r.Digest == "" || len(r.Digest) != 12 {
		t.Fatalf("got %+v", r)
	}
	got := *r
	got.Workload, got.Destination, got.Credential, got.Digest = nil, nil, nil, ""
	want := policy.Rule{Policy: "post", Owner: "qa@acme.example", Environment: "production", PathTemplate: "/api/files/**", Methods: []string{"POST"},
		Expires: day(2027, 4, 1), ReviewBy: day(2027, 2, 1), AllowHeaders: []string{"X-Http-Method-Override"}, Upgrade: []string{"websocket"},
		SetCookie: true, MaxStream: 10 * time.Minute}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	d := r.Destination
	if d.Roots == nil || d.RootsDigest != "digest of ca.pem" || d.Dial != "127.0.0.1:9443" || !d.Intercept || len(d.AllowPrivate) != 1 ||
		d.Refused == nil || !cmp.Equal(d.Ports, []uint16{443, 9443}) || !cmp.Equal(d.Hosts, []string{"slack.com", "*.slack.com"}) {
		t.Errorf("destination %+v", d)
	}
	if x := r.Credential; x.Name != "bot" || x.Shared || x.Scopes != "a b" || len(x.Generation) != 32 {
		t.Errorf("credential %+v", x)
	}
	clone := p.Request(request("/ns/qa/sa/dashboard", "github.com", "HEAD", "/repos/x/contents/a%2Fb")).Rule
	if clone == nil || !clone.Encoded || !clone.Credential.Shared || len(clone.Upgrade) != 0 || clone.MaxStream != time.Hour {
		t.Errorf("encoded rule %+v", clone)
	}
	if r := p.Request(request("/ns/qa/sa/dashboard", "slack.com", "GET", "/public/x")).Rule; r == nil || r.Credential != nil {
		t.Errorf("credential: none gives %+v", r)
	}
}

func TestExpiresIsTheEndOfThatDay(t *testing.T) {
	p := policy.New(newFixture().compile(t).Set)
	r := request("/ns/qa/sa/dashboard", "slack.com", "POST", "/api/chat.postMessage")
	r.At = day(2027, 4, 1).Add(-1)
	if d := p.Request(r); d.Verdict != policy.Allow {
		t.Errorf("the last instant: %+v", d)
	}
	r.At = day(2027, 4, 1)
	if d := p.Request(r); d.Reason != policy.ReasonExpired {
		t.Errorf("the first instant after: %+v", d)
	}
}

func TestCompiledCredentials(t *testing.T) {
	f := newFixture()
	f.bot.Spec.Destinations = []string{"slack", "github"}
	f.bot.Spec.Inject[0].Destinations = []string{"slack"}
	f.bot.Spec.Inject = append(f.bot.Spec.Inject, Inject{Basic: "x", Destinations: []string{"github"}})
	f.bot.Spec.TTL, f.spiffe.Spec.As = "5m", "egret"
	f.bot.Spec.Provider.OAuth2.Endpoint = &Endpoint{Roots: "idp.pem"}
	c := f.compile(t)
	var names []string
	for _, x := range c.Credentials {
		names = append(names, x.Name)
	}
	if !cmp.Equal(names, []string{"bot", "spiffe", "static"}) {
		t.Fatalf("got %v", names)
	}
	bot, spiffe, static := c.Credentials[0], c.Credentials[1], c.Credentials[2]
	if bot.TTL != 5*time.Minute || bot.Roots == nil || bot.RootsDigest == "" || bot.AsEgret || bot.Provider.OAuth2 == nil || bot.Owner == "" || bot.Environment != "production" {
		t.Errorf("bot %+v", bot)
	}
	if !cmp.Equal(bot.Inject[0].Hosts, []string{"slack.com", "*.slack.com"}) || !cmp.Equal(bot.Inject[1].Hosts, []string{"api.github.com", "github.com"}) {
		t.Errorf("bot is put in at %+v", bot.Inject)
	}
	if !spiffe.AsEgret || spiffe.TTL != DefaultTTL || spiffe.Shared || !static.Shared {
		t.Errorf("spiffe %+v, static %+v", spiffe, static)
	}
}

func TestDigestsFollowContentAndNotOrder(t *testing.T) {
	f := newFixture()
	a := f.compile(t)
	objs := f.objects()
	slices.Reverse(objs)
	b, faults := Compile(objs, f.opt)
	if len(faults) > 0 || a.Set.Digest != b.Set.Digest || a.Set.Digest == "" {
		t.Fatalf("digest %q and %q, %v", a.Set.Digest, b.Set.Digest, faults)
	}
	for i := range a.Set.Rules {
		if a.Set.Rules[i].Digest != b.Set.Rules[i].Digest || a.Set.Rules[i].Policy != b.Set.Rules[i].Policy {
			t.Errorf("rule %d depends on the order of the objects", i)
		}
	}
	rule := func(c *Compiled) (digest, generation string) {
		i := slices.IndexFunc(c.Set.Rules, func(r *policy.Rule) bool { return r.Policy == "post" })
		return c.Set.Rules[i].Digest, c.Set.Rules[i].Credential.Generation
	}
	digest, generation := rule(a)
	for name, c := range map[string]struct {
		change     func(*fixture)
		rule, cred bool // must change
	}{
		"workload":       {func(f *fixture) { f.job.Spec.Purpose = "else" }, true, false},
		"destination":    {func(f *fixture) { f.slack.Spec.Ports = []int{444} }, true, false},
		"credential":     {func(f *fixture) { f.bot.Spec.TTL = "2h" }, true, true},
		"roots":          {func(f *fixture) { f.bot.Spec.Provider.OAuth2.Endpoint = &Endpoint{Roots: "a.pem"} }, true, true},
		"policy":         {func(f *fixture) { f.post.Spec.Expires = "2027-04-01" }, true, false},
		"another policy": {func(f *fixture) { f.none.Spec.Expires = "2027-04-01" }, false, false},
		"node":           {func(f *fixture) { f.opt.UnlistedTunnel = true }, false, false},
	} {
		f := newFixture()
		c.change(f)
		got := f.compile(t)
		d, g := rule(got)
		if got.Set.Digest == a.Set.Digest || (d != digest) != c.rule || (g != generation) != c.cred {
			t.Errorf("%s: set %v, rule %v, credential %v changed", name, got.Set.Digest != a.Set.Digest, d != digest, g != generation)
		}
	}
}

func TestHintsCanBeFollowed(t *testing.T) {
	f := newFixture()
	f.post.Spec.Credential = "bto"
	_, faults := Compile(f.objects(), f.opt)
	if len(faults) != 1 || faults[0].Hint != "did you mean bot?" {
		t.Errorf("got %+v", faults)
	}
	f = newFixture()
	f.extra = []Object{{Workload: newWorkload("job", "spiffe://acme.example/x")}}
	if _, faults = Compile(f.objects(), f.opt); len(faults) != 1 || !strings.Contains(faults[0].Hint, "job.yaml") {
		t.Errorf("got %+v", faults)
	}
	if got := didYouMean("completely-else", []string{"job", "bot"}); got != "" {
		t.Errorf("hint %q for a name that is like none", got)
	}
}

func TestSchedule(t *testing.T) {
	f := newFixture()
	f.job.Spec.Schedule = &Schedule{Cron: "0 5 * * 1-5", Timezone: "Europe/Berlin", Window: "2h"}
	p := policy.New(f.compile(t).Set)
	for at, want := range map[string]policy.Reason{ // 5 o'clock in Berlin is 4 UTC in winter and 3 UTC in summer
		"2027-01-04T03:59:59Z": policy.ReasonOutsideSchedule,
		"2027-01-04T04:00:00Z": "",
		"2027-01-04T05:59:59Z": "",
		"2027-01-04T06:00:00Z": policy.ReasonOutsideSchedule,
		"2027-03-29T03:30:00Z": "", // the Monday after the clocks went forward
		"2027-01-03T04:30:00Z": policy.ReasonOutsideSchedule,
	} {
		r := request("/ns/qa/sa/dashboard", "slack.com", "POST", "/api/chat.postMessage")
		r.At, _ = time.Parse(time.RFC3339, at)
		if got := p.Request(r).Reason; got != want {
			t.Errorf("%s: %q, want %q", at, got, want)
		}
	}
}
