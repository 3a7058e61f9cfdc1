// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/egret-proxy/egret/audit"
	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/internal/wireerr"
	"github.com/egret-proxy/egret/policy"
	"github.com/egret-proxy/egret/policy/operation"
)

// Stage is one step of a live walk.
type Stage struct {
	Name   string        `json:"stage"` // identity, policy, credential, tls, upstream
	OK     bool          `json:"ok"`
	Reason policy.Reason `json:"reason,omitempty"`
	Detail string        `json:"detail"`         // for the operator
	Hint   string        `json:"hint,omitempty"` // what to do next, where it is not OK
	Took   time.Duration `json:"took_ns"`
}

// Walk is what Probe found.
type Walk struct {
	ID     string  `json:"id"` // of the record that it wrote
	OK     bool    `json:"ok"`
	Stages []Stage `json:"stages"`
}

// Probe walks the way of a request without the application: the caller's identity,
// policy, credential, the verified connection, and, for methods that change nothing, the
// SaaS's own answer. It stops at the first stage that fails and writes one record.
func (s *Server) Probe(ctx context.Context, caller identity.Caller, ask policy.Request, query string) Walk {
	p := &probe{s: s, caller: caller, ask: ask, query: query, start: time.Now()}
	p.walk.ID = newID()
	slot, err := s.deps.Audit.Begin()
	if err != nil {
		p.walk.Stages = []Stage{{Name: "audit", Reason: reasonBacklog, Detail: err.Error(), Hint: info(reasonBacklog).Hint}}
		return p.walk
	}
	p.walk.OK = p.stage(ctx, "identity", p.identity) && p.stage(ctx, "policy", p.policy) &&
		p.stage(ctx, "credential", p.credential) && p.stage(ctx, "tls", p.connect) && p.stage(ctx, "upstream", p.send)
	slot.Write(p.record())
	return p.walk
}

type probe struct {
	s        *Server
	caller   identity.Caller
	ask      policy.Request
	query    string
	start    time.Time
	walk     Walk
	decision policy.Decision
	dest     *policy.Destination
	cred     credential.Credential
	conn     *upstreamConn
	proto    string
	status   int
}

// stage runs one step and notes its outcome.
func (p *probe) stage(ctx context.Context, name string, run func(context.Context) (string, *refusal)) bool {
	ctx, cancel := context.WithTimeout(ctx, p.s.limits.CredentialWait)
	defer cancel()
	begin := time.Now()
	detail, ref := run(ctx)
	st := Stage{Name: name, OK: ref == nil, Detail: detail, Took: time.Since(begin)}
	if ref != nil {
		i := info(ref.reason)
		st.Reason, st.Hint = ref.reason, i.Hint
		st.Detail = i.Title
		if ref.err != nil {
			st.Detail += ": " + ref.err.Error()
		}
	}
	p.walk.Stages = append(p.walk.Stages, st)
	return ref == nil
}

func (p *probe) identity(context.Context) (string, *refusal) {
	w, err := p.caller.Workload()
	if err != nil {
		return "", identityRefusal(err)
	}
	p.ask.ID, p.ask.Evidence = w.ID, w.Evidence
	return fmt.Sprintf("%s by %s, valid for %s", w.ID, w.Evidence, time.Until(w.Expires).Round(time.Second)), nil
}

func (p *probe) policy(context.Context) (string, *refusal) {
	if reason, _ := PreviewMethod(p.ask.Method); reason != "" {
		return "", refuse(reason, nil)
	}
	adm := p.s.deps.Policy().Connect(p.ask.ID, p.ask.Evidence, p.ask.Target, p.ask.At)
	switch {
	case adm.Verdict == policy.Deny:
		return "", refuse(adm.Reason, nil).by(adm.Revoked)
	case adm.Verdict == policy.Tunnel:
		p.dest = adm.Destination
		return "tunnelled unread; no credential and no path rules apply", nil
	}
	p.dest = adm.Destination
	p.decision = p.s.deps.Policy().Request(p.ask)
	if e := p.decision.Extract; e != nil {
		if err := p.read(e); err != nil {
			return "", refuse(p.decision.Reason, err)
		}
		p.decision = p.s.deps.Policy().Request(p.ask)
	}
	if id := p.decision.Minting; id != "" {
		return "", refuse(p.decision.Reason, fmt.Errorf("it is %q in the built-in list", id))
	}
	if p.decision.Verdict != policy.Allow {
		return "", refuse(orReason(p.decision.Reason, policy.ReasonNotLoaded), nil).by(p.decision.Revoked)
	}
	if reason, why := PreviewQuery(p.query, p.decision.Rule); reason != "" {
		return "", refuse(reason, errors.New(why))
	}
	r := p.decision.Rule
	return fmt.Sprintf("allowed by %s (owner %s, until %s)", r.Policy, r.Owner, r.Expires.Add(-time.Second).UTC().Format(time.DateOnly)), nil
}

// read finds out what the probe's own request does, which has no body.
func (p *probe) read(e *operation.Extractor) error {
	if p.ask.Read {
		return nil
	}
	ops, err := e.Extract(&operation.Request{Method: p.ask.Method, Host: p.ask.Target.Host, Path: p.ask.Path, Query: p.query})
	if err != nil {
		return fmt.Errorf("it hangs on what the request does, and that stands in its body: %w", err)
	}
	p.ask.Operations, p.ask.Read = ops, true
	return nil
}

func (p *probe) credential(ctx context.Context) (string, *refusal) {
	if p.decision.Rule == nil || p.decision.Rule.Credential == nil {
		return "none is used here", nil
	}
	cred, ref := p.s.credential(ctx, credentialKey(p.decision.Rule.Credential, p.ask), p.caller)
	if ref != nil {
		return "", ref
	}
	p.cred = cred
	life := "its issuer tells no end"
	if e := cred.Expires(); !e.IsZero() {
		life = "valid for " + time.Until(e).Round(time.Second).String()
	}
	return fmt.Sprintf("%s, %s, %s", p.decision.Rule.Credential.Name, cred.Fingerprint(), life), nil
}

func (p *probe) hop() Hop {
	h := Hop{ID: p.ask.ID, Target: p.ask.Target, Destination: p.dest}
	if h.Destination == nil {
		h.Destination = &policy.Destination{}
	}
	if p.cred != nil {
		h.Certificate = p.cred.ClientCertificate()
	}
	return h
}

func (p *probe) connect(ctx context.Context) (string, *refusal) {
	proto, err := p.s.deps.Upstream.Protocol(ctx, p.hop(), []string{protoH2, protoH1})
	if err == nil {
		p.proto = proto
		p.conn, _, err = p.s.deps.Upstream.acquire(ctx, p.hop(), need{proto: proto})
	}
	if err != nil {
		return "", classifyUpstream(err)
	}
	return fmt.Sprintf("verified %s at %s, speaks %s", p.ask.Target, p.conn.address, proto), nil
}

// send makes the request itself where it changes nothing.
func (p *probe) send(ctx context.Context) (string, *refusal) {
	if p.ask.Method != http.MethodGet && p.ask.Method != http.MethodHead || p.decision.Rule == nil {
		p.conn.cc.Release()
		return "not sent: only GET and HEAD are safe to try", nil
	}
	resp, err := p.request(ctx)
	if err != nil {
		return "", classifyUpstream(err)
	}
	defer resp.Body.Close()
	p.status = resp.StatusCode
	if p.cred != nil && refusedCredential(resp, p.dest.Refused) {
		return "", refuse(reasonUpstreamAuth, fmt.Errorf("status %d", resp.StatusCode))
	}
	return fmt.Sprintf("the SaaS answered %d", resp.StatusCode), nil
}

func (p *probe) request(ctx context.Context) (*http.Response, error) {
	u := &url.URL{Scheme: "https", Host: p.ask.Target.Host, RawQuery: p.query}
	if p.ask.Target.Port != 443 {
		u.Host = p.ask.Target.String()
	}
	path, err := url.PathUnescape(p.ask.Path)
	if err != nil {
		p.conn.cc.Release()
		return nil, refuse(policy.ReasonAmbiguousPath, err)
	}
	u.Path, u.RawPath = path, p.ask.Path
	req := (&http.Request{Method: p.ask.Method, URL: u, Host: u.Host, Header: http.Header{"User-Agent": {"egret-probe"}}}).WithContext(ctx)
	if p.cred != nil {
		if err := p.cred.Apply(req); err != nil {
			p.conn.cc.Release()
			return nil, refuse(reasonCredApply, err)
		}
	}
	resp, err := p.conn.roundTrip(req, nil)
	return resp, wireerr.Wrap(err)
}

func (p *probe) record() audit.Record {
	rec := audit.Record{
		Schema: audit.Schema, Kind: audit.KindAdmin, Time: p.start, ID: p.walk.ID, Evidence: p.ask.Evidence,
		Method: methodForRecord(p.ask.Method), Host: p.ask.Target.Host, Port: p.ask.Target.Port, Verdict: p.decision.Verdict.String(),
		Operation: operationForRecord(p.ask.Operations), PolicySet: p.s.deps.Policy().Digest(), Status: p.status, Proto: "probe", TTotal: time.Since(p.start),
	}
	if !p.ask.ID.IsZero() {
		rec.Workload = p.ask.ID.String()
	}
	if r := p.decision.Rule; r != nil {
		rec.Policy, rec.PolicyDigest, rec.Owner, rec.Environment, rec.PathTemplate = r.Policy, r.Digest, r.Owner, r.Environment, r.PathTemplate
	}
	if p.cred != nil {
		rec.Fingerprint, rec.Credential = p.cred.Fingerprint(), p.decision.Rule.Credential.Name
	}
	if last := p.walk.Stages[len(p.walk.Stages)-1]; !last.OK {
		rec.Layer, rec.Reason, rec.Detail = last.Reason.Layer(), last.Reason.Code(), last.Detail
		if denial(rec.Layer) {
			rec.Verdict = policy.Deny.String()
		}
	}
	return rec
}
