// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"slices"
	"strings"
	"testing"
)

// awsFixture is the fixture with keys of AWS for Slack's host.
func awsFixture(change func(*fixture, *AWSProvider, *SigV4)) *fixture {
	f := newFixture()
	p := &AWSProvider{AssumeRoleWithWebIdentity: &AWSWebIdentity{RoleARN: "arn:aws:iam::123456789012:role/x", Region: "eu-central-1"}}
	s := &SigV4{Service: "s3", Region: "eu-central-1"}
	f.bot.Spec.Provider, f.bot.Spec.Inject, f.bot.Spec.As = Provider{AWS: p}, []Inject{{SigV4: s}}, ""
	if change != nil {
		change(f, p, s)
	}
	return f
}

func rolesAnywhere() *AWSRolesAnywhere {
	return &AWSRolesAnywhere{
		TrustAnchorARN: "arn:aws:rolesanywhere:eu-central-1:123456789012:trust-anchor/3d5a2c1e-0000-4000-8000-000000000001",
		ProfileARN:     "arn:aws:rolesanywhere:eu-central-1:123456789012:profile/3d5a2c1e-0000-4000-8000-000000000002",
		RoleARN:        "arn:aws:iam::123456789012:role/x",
	}
}

func TestAWSFaults(t *testing.T) {
	const p, s = "spec.provider.aws", "spec.inject[0].sigv4"
	web := func(change func(*AWSWebIdentity)) func(*fixture, *AWSProvider, *SigV4) {
		return func(_ *fixture, p *AWSProvider, _ *SigV4) { change(p.AssumeRoleWithWebIdentity) }
	}
	ra := func(change func(*AWSRolesAnywhere)) func(*fixture, *AWSProvider, *SigV4) {
		return func(_ *fixture, p *AWSProvider, _ *SigV4) {
			p.AssumeRoleWithWebIdentity, p.RolesAnywhere = nil, rolesAnywhere()
			change(p.RolesAnywhere)
		}
	}
	sig := func(change func(*SigV4)) func(*fixture, *AWSProvider, *SigV4) {
		return func(_ *fixture, _ *AWSProvider, s *SigV4) { change(s) }
	}
	for name, tc := range map[string]struct {
		change     func(*fixture, *AWSProvider, *SigV4)
		path, rule string
	}{
		"no member":      {func(_ *fixture, p *AWSProvider, _ *SigV4) { p.AssumeRoleWithWebIdentity = nil }, p, "exactly one member"},
		"two members":    {func(_ *fixture, p *AWSProvider, _ *SigV4) { p.RolesAnywhere = rolesAnywhere() }, p, "exactly one member"},
		"role":           {web(func(w *AWSWebIdentity) { w.RoleARN = "" }), p + ".assumeRoleWithWebIdentity.roleARN", "is required"},
		"role of a user": {web(func(w *AWSWebIdentity) { w.RoleARN = "arn:aws:iam::123456789012:user/x" }), p + ".assumeRoleWithWebIdentity.roleARN", "ARN of a role"},
		"no region":      {web(func(w *AWSWebIdentity) { w.Region = "" }), p + ".assumeRoleWithWebIdentity.region", "is required"},
		"region and URL": {web(func(w *AWSWebIdentity) { w.STSURL = "https://sts.example/" }), p + ".assumeRoleWithWebIdentity.region", "must be absent"},
		"URL with query": {web(func(w *AWSWebIdentity) { w.Region, w.STSURL = "", "https://sts.example/?a=b" }), p + ".assumeRoleWithWebIdentity.stsURL", "query"},
		"duration":       {web(func(w *AWSWebIdentity) { w.Duration = "1m" }), p + ".assumeRoleWithWebIdentity.duration", "15m"},
		"session name":   {web(func(w *AWSWebIdentity) { w.SessionName = "a/b" }), p + ".assumeRoleWithWebIdentity.sessionName", "{workload}"},
		"session policy": {web(func(w *AWSWebIdentity) { w.Policy = "{}" }), p + ".assumeRoleWithWebIdentity.policy", "Statement"},
		"policy ARN":     {web(func(w *AWSWebIdentity) { w.PolicyARNs = []string{"x"} }), p + ".assumeRoleWithWebIdentity.policyARNs[0]", "ARN of a policy"},
		"too many":       {web(func(w *AWSWebIdentity) { w.PolicyARNs = slices.Repeat([]string{"arn:aws:iam::aws:policy/x"}, 11) }), p + ".assumeRoleWithWebIdentity.policyARNs", "at most 10"},
		"anchor":         {ra(func(r *AWSRolesAnywhere) { r.TrustAnchorARN = r.ProfileARN }), p + ".rolesAnywhere.trustAnchorARN", "trust anchor"},
		"profile":        {ra(func(r *AWSRolesAnywhere) { r.ProfileARN = "" }), p + ".rolesAnywhere.profileARN", "is required"},
		"anywhere URL":   {ra(func(r *AWSRolesAnywhere) { r.URL = "http://x.example" }), p + ".rolesAnywhere.url", "https"},
		"static key": {func(_ *fixture, p *AWSProvider, _ *SigV4) {
			p.AssumeRoleWithWebIdentity, p.Static = nil, &AWSStatic{AccessKeyID: SecretSource{File: "/id"}}
		}, p + ".static.secretAccessKey", "exactly one"},
		"as with keys": {func(f *fixture, p *AWSProvider, _ *SigV4) {
			p.AssumeRoleWithWebIdentity, p.Static, f.bot.Spec.As = nil, &AWSStatic{SecretSource{File: "/id"}, SecretSource{File: "/key"}, nil}, "egret"
		}, "spec.as", "SVID"},
		"no service":      {sig(func(s *SigV4) { s.Service = "" }), s + ".service", "is required"},
		"no scope region": {sig(func(s *SigV4) { s.Region = "" }), s + ".region", "is required"},
		"s3express":       {sig(func(s *SigV4) { s.Service = "s3express" }), s + ".service", "session of its own"},
		"max body":        {sig(func(s *SigV4) { s.MaxBody = "1GB" }), s + ".maxBody", "64MiB"},
		"max body large":  {sig(func(s *SigV4) { s.MaxBody = "65MiB" }), s + ".maxBody", "64MiB"},
		"host pattern":    {sig(func(s *SigV4) { s.Hosts = []SigV4Host{{"a_b", "s3", "r"}} }), s + ".hosts[0].host", "letters"},
		"host twice":      {sig(func(s *SigV4) { s.Hosts = []SigV4Host{{"slack.com", "s3", "r"}, {"Slack.com", "s3", "q"}} }), s + ".hosts[1]", "only once"},
		"host of nobody":  {sig(func(s *SigV4) { s.Hosts = []SigV4Host{{"slick.com", "s3", "r"}} }), s + ".hosts[0].host", "host of the destinations"},
		"host left out":   {sig(func(s *SigV4) { *s = SigV4{Hosts: []SigV4Host{{"slick.com", "s3", "r"}}} }), s + ".hosts", "a line for each host"},
		"with a header":   {func(f *fixture, _ *AWSProvider, _ *SigV4) { f.bot.Spec.Inject[0].Header = "X-A" }, "spec.inject[0]", "exactly one of"},
		"with a value":    {func(f *fixture, _ *AWSProvider, _ *SigV4) { f.bot.Spec.Inject[0].Value = "x" }, "spec.inject[0].value", "sigv4"},
		"only a header":   {func(f *fixture, _ *AWSProvider, _ *SigV4) { f.bot.Spec.Inject = []Inject{{Header: "X-A", Value: "b"}} }, "spec.destinations[0]", "sigv4"},
		"key in a header": {func(f *fixture, _ *AWSProvider, _ *SigV4) {
			f.bot.Spec.Inject = append(f.bot.Spec.Inject, Inject{Header: "X-A", Value: "{secret_access_key}"})
		}, "spec.inject[1].value", "no braces"},
		"header without": {func(f *fixture, _ *AWSProvider, _ *SigV4) {
			f.bot.Spec.Inject = append(f.bot.Spec.Inject, Inject{Header: "X-A"})
		}, "spec.inject[1].value", "must be set"},
		"two signatures": {func(f *fixture, _ *AWSProvider, s *SigV4) {
			f.bot.Spec.Inject = append(f.bot.Spec.Inject, Inject{SigV4: s})
		}, "spec.inject[1]", "twice"},
		"another provider": {func(f *fixture, _ *AWSProvider, _ *SigV4) {
			f.bot.Spec.Provider = Provider{Static: &StaticProvider{Value: SecretSource{File: "/key"}}}
		}, s, "AWS keys"},
	} {
		t.Run(name, func(t *testing.T) {
			_, faults := Compile(awsFixture(tc.change).objects(), Options{})
			if !slices.ContainsFunc(faults, func(f ObjectFault) bool { return f.Path == tc.path && strings.Contains(f.Rule, tc.rule) }) {
				t.Errorf("no fault at %s with %q among %+v", tc.path, tc.rule, faults)
			}
		})
	}
}

func TestAWSCompiles(t *testing.T) {
	for name, tc := range map[string]struct {
		change          func(*fixture, *AWSProvider, *SigV4)
		shared, preview bool
		audience        string
	}{
		"web identity":   {nil, false, false, "sts.amazonaws.com"},
		"as egret":       {func(f *fixture, _ *AWSProvider, _ *SigV4) { f.bot.Spec.As = "egret" }, false, false, "sts.amazonaws.com"},
		"roles anywhere": {func(_ *fixture, p *AWSProvider, _ *SigV4) { *p = AWSProvider{RolesAnywhere: rolesAnywhere()} }, false, true, ""},
		"static": {func(_ *fixture, p *AWSProvider, _ *SigV4) {
			*p = AWSProvider{Static: &AWSStatic{SecretSource{File: "/id"}, SecretSource{File: "/key"}, nil}}
		}, true, false, ""},
		"host table": {func(_ *fixture, _ *AWSProvider, s *SigV4) {
			*s = SigV4{Hosts: []SigV4Host{{"Slack.com", "s3", "r"}, {"*.slack.com", "s3", "r"}}, MaxBody: "25MiB"}
		}, false, false, "sts.amazonaws.com"},
	} {
		t.Run(name, func(t *testing.T) {
			f := awsFixture(tc.change)
			f.bot.Spec.Provider.AWS.check(new(faults), "")
			out, faults := Compile(f.objects(), Options{})
			if len(faults) > 0 {
				t.Fatalf("%+v", faults)
			}
			i := slices.IndexFunc(out.Credentials, func(c CompiledCredential) bool { return c.Name == f.bot.Metadata.Name })
			c := out.Credentials[i]
			if c.Shared != tc.shared || c.Preview != tc.preview || c.Inject[0].SigV4 == nil {
				t.Errorf("%+v", c)
			}
			if k := f.bot.key("g"); k.Audience != tc.audience {
				t.Errorf("audience %q, want %q", k.Audience, tc.audience)
			}
		})
	}
}
