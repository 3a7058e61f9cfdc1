// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package policy

import "testing"

func TestRevoke(t *testing.T) {
	w := newWorld()
	bot := &Credential{Name: "bot"}
	w.set.Rules[0].Credential = bot // post
	p := New(w.set)
	post := Request{ID: id("/job"), Evidence: evidence, Target: Target{"slack.com", 443}, Method: "POST", Path: "/api/chat.postMessage", At: now}
	info := post
	info.Method, info.Path = "GET", "/api/users/info"
	observed := post
	observed.ID, observed.Path, observed.Method = id("/watch"), "/api/x", "GET"
	missed := observed
	missed.Method = "PUT" // no rule covers it: observed only because all observe
	for name, tc := range map[string]struct {
		revoked Revocation
		ask     Request
		want    Reason
	}{
		"caller":            {Revocation{ID: id("/job")}, post, ReasonRevoked},
		"another caller":    {Revocation{ID: id("/job2")}, post, ""},
		"workload":          {Revocation{Workload: "job"}, info, ReasonRevoked},
		"another workload":  {Revocation{Workload: "ext"}, info, ""},
		"credential":        {Revocation{Credential: "bot"}, post, ReasonRevoked},
		"without it":        {Revocation{Credential: "bot"}, info, ""},
		"policy":            {Revocation{Policy: "any"}, info, ReasonRevoked},
		"another policy":    {Revocation{Policy: "any"}, post, ""},
		"observed":          {Revocation{Policy: "w1"}, observed, ReasonRevoked},
		"observed, no rule": {Revocation{Policy: "w1"}, missed, ReasonRevoked},
		"nothing":           {Revocation{}, post, ""},
	} {
		t.Run(name, func(t *testing.T) {
			q := p.Revoke([]Revocation{tc.revoked})
			d := q.Request(tc.ask)
			if d.Reason != tc.want || (tc.want != "") != (d.Verdict == Deny && !d.Observed) {
				t.Errorf("got %+v", d)
			}
			if x := q.Explain(tc.ask); tc.want != "" && x.Why != "it is revoked by hand: egret revoke --list shows by whom and why" {
				t.Errorf("why: %s", x.Why)
			}
			for _, lifted := range []*Policy{p, q.Revoke(nil)} {
				if d := lifted.Request(tc.ask); d.Reason == ReasonRevoked {
					t.Errorf("revoked where it is not: %+v", d)
				}
			}
		})
	}
}

// A tunnel has no inside where the revocation could be told: the connection is refused.
// An intercepted destination lets the caller in, to be told.
func TestRevokeConnect(t *testing.T) {
	p := New(newWorld().set)
	bank, slack := Target{"bank.example", 443}, Target{"slack.com", 443}
	for name, list := range map[string][]Revocation{
		"caller": {{ID: id("/pinned")}}, "workload": {{Workload: "pinned"}}, "policy": {{Policy: "t"}},
	} {
		if a := p.Revoke(list).Connect(id("/pinned"), evidence, bank, now); a.Verdict != Deny || a.Reason != ReasonRevoked {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if a := p.Revoke([]Revocation{{Workload: "job"}}).Connect(id("/job"), evidence, slack, now); a.Verdict != Allow {
		t.Errorf("intercepted: %+v", a)
	}
	w := newWorld()
	w.set.UnlistedTunnel = true
	if a := New(w.set).Revoke([]Revocation{{Workload: "job"}}).Connect(id("/job"), evidence, Target{"other.example", 443}, now); a.Verdict != Deny {
		t.Errorf("unlisted: %+v", a)
	}
}

// The denial names the revocation, the first of several, and the rule that it takes away.
func TestRevokedIsNamed(t *testing.T) {
	p := New(newWorld().set)
	info := Request{ID: id("/job"), Evidence: evidence, Target: Target{"slack.com", 443}, Method: "GET", Path: "/api/users/info", At: now}
	const label = "revocation 1 of it: INC-4711"
	for name, r := range map[string]Revocation{
		"caller":   {ID: id("/job"), Label: label},
		"workload": {Workload: "job", Label: label},
		"policy":   {Policy: "any", Label: label},
	} {
		again := r
		again.Label = "revocation 2 of it"
		q := p.Revoke([]Revocation{r, again})
		d := q.Request(info)
		if d.Verdict != Deny || d.Observed || d.Revoked != label || d.Rule == nil || d.Rule.Policy != "any" {
			t.Errorf("%s: %+v", name, d)
		}
		if x := q.Explain(info); x.Why != "it is revoked by hand: "+label {
			t.Errorf("%s: why: %s", name, x.Why)
		}
	}
	for name, r := range map[string]Revocation{
		"caller": {ID: id("/pinned"), Label: label}, "workload": {Workload: "pinned", Label: label}, "policy": {Policy: "t", Label: label},
	} {
		a := p.Revoke([]Revocation{r}).Connect(id("/pinned"), evidence, Target{"bank.example", 443}, now)
		if a.Verdict != Deny || a.Revoked != label || a.Rule == nil || a.Rule.Policy != "t" {
			t.Errorf("tunnel, %s: %+v", name, a)
		}
	}
}

func TestRevokeNothing(t *testing.T) {
	if (*Policy)(nil).Revoke([]Revocation{{Workload: "job"}}) != nil {
		t.Error("a nil policy became one")
	}
	if d := new(Policy).Revoke(nil).Request(Request{}); d.Reason != ReasonNotLoaded {
		t.Errorf("the zero policy: %+v", d)
	}
}
