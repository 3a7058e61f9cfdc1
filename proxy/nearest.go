// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/egret-proxy/egret/policy"
)

// explainRate is how many denials a second are explained in records. An explanation costs
// more the more rules there are, and whoever is denied could ask for them in a loop.
const explainRate = 50

// explaining counts the explanations of the present second. Safe for concurrent use.
type explaining struct {
	mu     sync.Mutex
	second int64
	n      int
}

func (e *explaining) allowed(now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := now.Unix(); s != e.second {
		e.second, e.n = s, 0
	}
	e.n++
	return e.n <= explainRate
}

// nearest puts the rule that came nearest to a denied request into the record, so that
// the denials of a policy can be found by its name and its owner can be told.
func (x *exchange) nearest(p *policy.Policy, reason policy.Reason) *refusal {
	if reason == policy.ReasonRevoked { // no rule came near: the decision's own is the one
		return refuse(reason, nil).by(x.decision.Revoked)
	}
	if !x.s.explain.allowed(x.start) {
		return refuse(reason, nil)
	}
	near := p.Explain(x.ask).Nearest
	if len(near) == 0 {
		return refuse(reason, nil)
	}
	r := near[0].Rule
	x.rec.Policy, x.rec.PolicyDigest, x.rec.Owner = r.Policy, r.Digest, r.Owner
	x.rec.Environment = r.Environment
	return refuse(reason, errors.New(missWords(r, reason)))
}

// missWords says what was not as in the rule, in words of the rule: nothing of the request
// is in them, whose path may hold what belongs in no record.
func missWords(r *policy.Rule, reason policy.Reason) string {
	what := "does not grant it"
	switch reason {
	case policy.ReasonPathNotAllowed:
		what = fmt.Sprintf("has other paths (%s)", r.PathTemplate)
	case policy.ReasonAmbiguousPath:
		what = "takes no path that can be read in two ways"
	case policy.ReasonMethodNotAllowed:
		what = fmt.Sprintf("has method %s only", strings.Join(r.Methods, ", "))
	case policy.ReasonOperationNotAllowed:
		what = fmt.Sprintf("has operations %s only", strings.Join(r.Operations, ", "))
	case policy.ReasonExpired:
		what = "ended on " + r.Expires.Add(-time.Second).UTC().Format(time.DateOnly)
	case policy.ReasonWeakEvidence:
		what = fmt.Sprintf("is for workload %q, which accepts the evidence %s only", r.Workload.Name, strings.Join(r.Workload.Evidence, ", "))
	case policy.ReasonOutsideSchedule:
		what = fmt.Sprintf("is for workload %q, which runs by a schedule and not now", r.Workload.Name)
	}
	return fmt.Sprintf("nearest: policy %q %s", r.Policy, what)
}

// denial reports whether a refusal of this layer is egret's own no. What the SaaS or the
// client broke off does not change what policy said.
func denial(layer string) bool { return layer != "upstream" && layer != "client" }
