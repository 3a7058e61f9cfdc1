// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"slices"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/egret-proxy/egret/policy"
)

// evidenceKinds are those of package identity; the last two are bearer evidence.
func evidenceKinds() []string {
	return []string{"sidecar", "process", "pod", "x509-svid", "jwt-svid", "token"}
}

// defaultEvidence is what a Workload accepts that lists none (MUST I12).
func defaultEvidence() []string { return evidenceKinds()[:4] }

// Validate returns everything that is wrong within the object.
func (x *Workload) Validate() []Fault {
	var f faults
	f.head(x.APIVersion, x.Kind, KindWorkload)
	f.name("metadata.name", x.Metadata.Name)
	f.pattern("spec.spiffeID", x.Spec.SpiffeID)
	f.line("spec.owner", x.Spec.Owner)
	f.line("spec.purpose", x.Spec.Purpose)
	f.name("spec.environment", x.Spec.Environment)
	f.evidence(x.Spec.Evidence)
	if x.Spec.Schedule != nil {
		f.schedule(x.Spec.Schedule)
	}
	return f
}

func (f *faults) pattern(path, value string) policy.IDPattern {
	p, err := policy.ParseIDPattern(value)
	f.wrong(path, value, err)
	return p
}

func (f *faults) evidence(list []string) {
	const path = "spec.evidence"
	if list != nil && len(list) == 0 {
		f.add(Fault{path, "[]", "must not be empty: no caller could be accepted", "leave it out for the default " + strings.Join(defaultEvidence(), ", ")})
	}
	for i, e := range list {
		f.oneOf(at(path, i), e, evidenceKinds()...)
	}
	f.distinct(path, list)
}

const maxWindow = 24 * time.Hour

// schedule returns the compiled form, or nil where something is wrong.
func (f *faults) schedule(s *Schedule) policy.Schedule {
	before := len(*f)
	loc := f.timezone(s.Timezone)
	spec := f.cron(s.Cron)
	window := f.duration("spec.schedule.window", s.Window, span{time.Minute, maxWindow})
	if s.Window == "" {
		f.add(Fault{"spec.schedule.window", "", "is required", "how long after each start requests are accepted, as 2h"})
	}
	if len(*f) > before {
		return nil
	}
	return &cronSchedule{spec: spec, loc: loc, window: window}
}

// timezone refuses "Local", which is another place on every machine.
func (f *faults) timezone(name string) *time.Location {
	if name == "" {
		return time.UTC
	}
	loc, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		f.add(Fault{"spec.schedule.timezone", name, "must be an IANA time zone that this machine knows", "write it as Europe/Berlin"})
	}
	return loc
}

func (f *faults) cron(text string) cron.Schedule {
	const path, rule, hint = "spec.schedule.cron", "must have five fields: minute, hour, day of month, month, day of week", `write it as "0 5 * * 1-5"`
	if len(text) > 256 || strings.ContainsAny(text, "@=") { // @every and TZ= have no place here
		f.add(Fault{path, text, rule, hint})
		return nil
	}
	spec, err := cron.ParseStandard(text)
	switch {
	case err != nil:
		f.add(Fault{path, text, rule + ": " + err.Error(), hint})
	case spec.Next(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero():
		f.bad(path, text, "must name a time that comes, and this one never does")
	}
	return spec
}

// cronSchedule is active for a window after each start.
type cronSchedule struct {
	spec   cron.Schedule
	loc    *time.Location
	window time.Duration
}

// Active implements policy.Schedule: some start lies in (at-window, at].
func (s *cronSchedule) Active(at time.Time) bool {
	start := s.spec.Next(at.In(s.loc).Add(-s.window))
	return !start.IsZero() && !start.After(at)
}

// compile makes the policy's form of a valid Workload.
func (x *Workload) compile() *policy.Workload {
	w := &policy.Workload{
		Name:        x.Metadata.Name,
		Owner:       x.Spec.Owner,
		Purpose:     x.Spec.Purpose,
		Environment: x.Spec.Environment,
		Evidence:    slices.Clone(x.Spec.Evidence),
	}
	if x.Spec.Evidence == nil {
		w.Evidence = defaultEvidence()
	}
	if x.Spec.Schedule != nil {
		var f faults
		w.Schedule = f.schedule(x.Spec.Schedule)
		if w.Schedule == nil { // not valid: Compile gives no result then, and this stays closed
			w.Evidence = nil
		}
	}
	return w
}
