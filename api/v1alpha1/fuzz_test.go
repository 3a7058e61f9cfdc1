// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/egret-proxy/egret/policy"
)

// TestAnySetThatCompilesDeniesWithoutARule draws sets out of sound and unsound values.
// What validates and fits together compiles; and no request is ever allowed but by a
// rule of its own workload and destination that an object grants.
func TestAnySetThatCompilesDeniesWithoutARule(t *testing.T) {
	compiled := 0
	rapid.Check(t, func(t *rapid.T) {
		f := newFixture()
		pick := func(label string, s ...string) string { return rapid.SampledFrom(s).Draw(t, label) }
		change := func(label string, field *string, values ...string) {
			if rapid.IntRange(0, 3).Draw(t, "change "+label) == 0 {
				*field = pick(label, values...)
			}
		}
		change("method", &f.post.Spec.Allow[0].Methods[0], "GET", "TRACE", "PUT")
		change("path", &f.post.Spec.Allow[0].Paths[0], "/**", "/a/*", "/a/b", "/public/**", "a")
		change("mode", &f.post.Spec.Mode, "enforce", "observe", "off")
		change("destination", &f.post.Spec.Destination, "github", "bank", "nowhere")
		change("workload", &f.none.Spec.Workload, "scoped", "nobody")
		change("ID", &f.scoped.Spec.SpiffeID, "spiffe://acme.example/ns/*/sa/x", "spiffe://acme.example/ns/team/sa/one", f.job.Spec.SpiffeID)
		change("usableBy", &f.bot.Spec.UsableBy[0], "scoped", "spiffe://acme.example/**")
		change("intercept", &f.slack.Spec.Intercept, "always", "never")

		c, faults := Compile(f.objects(), f.opt)
		if (c == nil) != (len(faults) > 0) {
			t.Fatalf("result %v with faults %v", c != nil, faults)
		}
		if c == nil {
			return
		}
		compiled++
		r := request(pick("caller", "/ns/qa/sa/dashboard", "/ns/team/sa/one", "/ns/pay/sa/x", "/other"),
			pick("host", "slack.com", "a.slack.com", "github.com", "bank.example", "evil.example"),
			pick("method", "GET", "POST", "TRACE"), pick("request path", "/a/b", "/public/x", "/a/../b", "/", "/repos/x/contents/y"))
		p := policy.New(c.Set)
		if d := p.Request(r); d.Verdict == policy.Allow {
			justified(t, p, r, d)
		}
	})
	if compiled == 0 {
		t.Error("no drawn set compiled")
	}
}

// justified holds a grant against the rule that made it.
func justified(t *rapid.T, p *policy.Policy, r policy.Request, d policy.Decision) {
	rule := d.Rule
	switch {
	case rule == nil || !slices.Contains(p.Rules(), rule):
		t.Fatalf("allowed without a rule: %+v", d)
	case rule.Workload != p.Workload(r.ID) || rule.Destination != p.Destination(r.Target):
		t.Fatalf("%+v allowed by the rule of another: %+v", r, rule)
	case !slices.Contains(rule.Methods, r.Method) || r.Method == "TRACE" || !r.At.Before(rule.Expires):
		t.Fatalf("%+v allowed by %+v", r, rule)
	}
}

// FuzzValidate: whatever an object holds, Validate and Compile do not panic, agree with
// each other, and give each fault a path and a rule.
func FuzzValidate(f *testing.F) {
	for _, o := range newFixture().objects() {
		for _, x := range []any{o.Workload, o.Destination, o.Credential, o.AccessPolicy} {
			b, err := json.Marshal(x)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var o Object
		for _, x := range []any{&o.Workload, &o.Destination, &o.Credential, &o.AccessPolicy} {
			_ = json.Unmarshal(b, x) // what does not fit stays empty
		}
		for _, one := range []Object{{Workload: o.Workload}, {Destination: o.Destination}, {Credential: o.Credential}, {AccessPolicy: o.AccessPolicy}} {
			if one.kinds() == 1 {
				checkAlone(t, one)
			}
		}
	})
}

func checkAlone(t *testing.T, o Object) {
	t.Helper()
	var own []Fault
	switch {
	case o.Workload != nil:
		own = o.Workload.Validate()
	case o.Destination != nil:
		own = o.Destination.Validate()
	case o.Credential != nil:
		own = o.Credential.Validate()
	default:
		own = o.AccessPolicy.Validate()
	}
	c, all := Compile([]Object{o}, newFixture().opt)
	if (c == nil) != (len(all) > 0) || len(all) < len(own) {
		t.Fatalf("%d faults alone, %d compiled, result %v", len(own), len(all), c != nil)
	}
	for _, x := range all {
		if x.Path == "" || x.Rule == "" {
			t.Fatalf("a fault says nothing: %+v", x)
		}
	}
	if c != nil && o.Workload != nil && len(policy.New(c.Set).Bindings()) != 1 {
		t.Fatal("a valid Workload is bound to nothing")
	}
}

// FuzzSchedule: a schedule that validates is active at its next start and, where it is
// not active now, not before that.
func FuzzSchedule(f *testing.F) {
	f.Add("0 5 * * 1-5", "Europe/Berlin", "2h", int64(1_800_000_000))
	f.Add("*/7 */3 29 2 *", "", "1m", int64(0))
	f.Add("TZ=0", "Local", "24h", int64(-1))
	f.Fuzz(func(t *testing.T, text, zone, window string, unix int64) {
		var faults faults
		s, ok := faults.schedule(&Schedule{Cron: text, Timezone: zone, Window: window}).(*cronSchedule)
		if !ok || len(faults) > 0 || unix < 0 || unix > 1<<33 {
			return
		}
		at := time.Unix(unix, 0)
		start := s.spec.Next(at.In(s.loc))
		if start.IsZero() {
			return
		}
		if !s.Active(start) {
			t.Fatalf("%q in %q is not active at its start %s", text, zone, start)
		}
		between := at.Add(start.Sub(at) / 2)
		if !s.Active(at) && between.Before(start) && s.Active(between) {
			t.Fatalf("%q in %q becomes active at %s, and its next start is %s", text, zone, between, start)
		}
	})
}

func BenchmarkCompile(b *testing.B) {
	f := newFixture()
	objs := []Object{{Destination: f.slack}}
	for i := range 5000 {
		name := fmt.Sprint("w", i)
		pattern := "spiffe://acme.example/ns/" + name + []string{"/sa/job", "/sa/*"}[i%2]
		objs = append(objs, Object{Workload: newWorkload(name, pattern)},
			Object{AccessPolicy: newPolicy(name, name, "slack", "none", f.post.Spec.Allow...)})
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, faults := Compile(objs, f.opt); len(faults) > 0 {
			b.Fatal(faults[0])
		}
	}
}
