// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/net/http/httpguts"

	"github.com/egret-proxy/egret/audit"
	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/policy"
)

// exchange is one request: what is known of it, what was decided, what became of it.
// It is used by the goroutine of its handler; the members behind mu are also touched by
// the watcher.
type exchange struct {
	s   *Server
	c   *clientConn
	w   *responseWriter
	r   *http.Request
	rec audit.Record

	start    time.Time
	before   time.Duration // spent on the connection's identity, with its first request
	slot     audit.Slot
	ask      policy.Request
	decision policy.Decision
	key      credential.Key
	cred     credential.Credential
	observed bool     // forward with the caller's own headers
	injected []string // what the credential put into the request, for cleaning the answer
	refused  bool     // the SaaS refused our credential, and its answer goes through
	closing  bool     // ask the client for a new connection

	peeked *bodyPeek // what had to be read of the body before the decision
	unread error     // why nothing could be read of what the request does

	bodyIn    atomic.Int64
	bodyWait  atomic.Int64 // since when a read of the client's body waits, in Unix nanoseconds; 0: none does
	bodyDone  atomic.Bool  // read to its end
	bodyAsked atomic.Bool  // a read of it has begun, or a 100 Continue been passed on: the client may send it
	bodyErr   atomic.Bool  // reading the client's body failed
	bodyEnd   atomic.Bool  // the upstream wants no more of it
	readErr   error        // reading the upstream's body failed
	upgraded  atomic.Bool

	ctx  context.Context
	stop context.CancelCauseFunc
	own  struct { // what every exchange needs, in one allocation with it
		scope    scope
		writer   responseWriter
		upload   countingBody
		answer   watchedBody
		held     heldBody
		hints    hints
		url      url.URL
		sent     http.Request // with the credential
		sentURL  url.URL
		agent    [1]string // no User-Agent
		injected [2]string
		decision [1]string
	}

	mu        sync.Mutex
	started   bool // a start record has been written
	answering bool // the response header is on its way
	cutting   bool // the watcher has ended it
	done      bool // the handler has returned: nothing of the connection may be touched
}

type exchangeKey struct{}

// scope is the context of an exchange: context.WithValue without an allocation.
type scope struct {
	context.Context
	x *exchange
}

// Value implements context.Context.
func (s *scope) Value(key any) any {
	if _, ok := key.(exchangeKey); ok {
		return s.x
	}
	return s.Context.Value(key)
}

func exchangeFrom(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// ServeHTTP carries one request on an intercepted connection, HTTP/1.1 and HTTP/2
// alike: authority, decision, credential, forward. The record is written on every way
// out, exactly once.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := connFrom(r.Context())
	if c == nil {
		panic("proxy: request outside an admitted connection")
	}
	if c.over.Load() { // the rest of a body, not a request
		panic(http.ErrAbortHandler)
	}
	s.busy.Add(1)
	defer s.busy.Add(-1)
	x := s.begin(c, w, r)
	defer func() {
		p := recover()
		x.finish(p)
		if p != nil {
			panic(http.ErrAbortHandler)
		}
	}()
	for _, stage := range []func() *refusal{x.reserve, x.authority, x.decide, x.equip} {
		if ref := stage(); ref != nil {
			x.drainBody()
			x.refuse(ref)
			x.settle()
			return
		}
	}
	x.forward()
}

// sameTarget reports whether a Host or :authority names the connection's target; without
// a port it means 443, the default of https.
func sameTarget(t policy.Target, host string) bool {
	if host == t.Host && t.Port == 443 && strings.IndexByte(host, ':') < 0 { // canonical: it would parse to itself
		return true
	}
	got, err := policy.ParseTarget(withPort(host, "443"))
	return err == nil && got == t
}

// begin makes the exchange and its record.
func (s *Server) begin(c *clientConn, w http.ResponseWriter, r *http.Request) *exchange {
	x := &exchange{s: s, c: c, start: time.Now()}
	first := c.requests.Add(1) == 1
	x.rec = c.record(audit.KindRequest)
	x.rec.ID, x.rec.Time, x.rec.Method = newID(), x.start, methodForRecord(r.Method)
	x.rec.Proto = "h1"
	if r.ProtoMajor == 2 {
		x.rec.Proto = "h2"
	}
	if first { // the connection's own way in is told with its first request, in the total too
		x.before = c.took
	} else {
		x.rec.TIdentity = 0
	}
	var ctx context.Context
	ctx, x.stop = context.WithCancelCause(r.Context())
	x.own.scope = scope{ctx, x}
	x.ctx = &x.own.scope
	x.r = r
	x.w = &x.own.writer
	x.w.ResponseWriter, x.w.x = w, x
	if r.Body != nil && r.Body != http.NoBody {
		x.own.upload = countingBody{ReadCloser: r.Body, x: x}
		own := *r // net/http goes by the body in its own: it may have to say 100 Continue
		x.r = &own
		x.r.Body = &x.own.upload
		if r.ProtoMajor == 1 { // otherwise no answer reaches a client before its body has
			_ = http.NewResponseController(w).EnableFullDuplex()
		}
	}
	x.injected = x.own.injected[:0]
	return x
}

// reserve takes the record's place: nothing is sent that cannot be recorded (MUST A1).
func (x *exchange) reserve() *refusal {
	slot, err := x.s.deps.Audit.Begin()
	if err != nil {
		return refuse(reasonBacklog, err)
	}
	x.slot = slot
	return nil
}

// authority holds the request to the connection's target (MUST T1, T2, H5) and to the
// node's limits.
func (x *exchange) authority() *refusal {
	r, t := x.r, x.c.target
	switch {
	case headerBytes(r) > x.s.limits.HeaderBytes:
		return refuse(reasonHeaderSize, nil)
	case neverForwarded(r.Method):
		return refuse(reasonMethod, nil)
	case !strings.HasPrefix(r.RequestURI, "/"):
		return refuse(reasonAuthority, errors.New("the request target is not a path"))
	case !sameTarget(t, r.Host):
		return refuse(reasonAuthority, fmt.Errorf("host %q on a connection to %s", r.Host, t))
	case len(r.Header["Host"]) > 0 && !(len(r.Header["Host"]) == 1 && sameTarget(t, r.Header["Host"][0])):
		return refuse(reasonAuthority, errors.New("a second host header"))
	}
	return nil
}

// neverForwarded are methods that echo the request, credential included, or open a
// tunnel (MUST H5). Some servers fold the case of methods, so every case is meant.
func neverForwarded(method string) bool {
	return strings.EqualFold(method, http.MethodConnect) || strings.EqualFold(method, http.MethodTrace) || strings.EqualFold(method, "TRACK")
}

// decide asks identity and policy, for every request anew (MUST I4).
func (x *exchange) decide() *refusal {
	begin := time.Now()
	w, err := x.c.caller.Workload()
	x.rec.TIdentity += time.Since(begin)
	if err != nil {
		return identityRefusal(err)
	}
	if time.Until(w.Expires) < nearEnd {
		x.closing = true
	}
	path, _, _ := strings.Cut(x.r.RequestURI, "?")
	x.ask = policy.Request{ID: w.ID, Evidence: w.Evidence, Target: x.c.target, Method: x.r.Method, Path: path, At: x.start}
	p := x.s.deps.Policy()
	x.rec.PolicySet = p.Digest()
	if ref := x.decideOn(p); ref != nil {
		return ref
	}
	return x.carryOut(p)
}

// carryOut turns the decision into what the rest of the way needs; nothing is decided
// after this.
func (x *exchange) carryOut(p *policy.Policy) *refusal {
	d := &x.decision
	x.rec.Verdict, x.rec.Observed = d.Verdict.String(), d.Observed
	if d.Rule != nil {
		x.note(d.Rule)
	}
	if d.Observed {
		x.observed = true
		x.rec.Layer, x.rec.Reason = d.Reason.Layer(), d.Reason.Code()
		return x.upgradeAllowed(d.Rule)
	}
	if d.Minting != "" {
		return x.mints(p)
	}
	if d.Verdict != policy.Allow || d.Rule == nil {
		return x.untold(x.nearest(p, orReason(d.Reason, policy.ReasonNotLoaded)))
	}
	if reason, name := queryProblem(x.r.URL.RawQuery, d.Rule); reason != "" {
		return refuse(reason, fmt.Errorf("parameter %q", name))
	}
	if ref := x.bodyCredential(d.Rule); ref != nil {
		return ref
	}
	return x.upgradeAllowed(d.Rule)
}

func orReason(r, d policy.Reason) policy.Reason {
	if r == "" {
		return d
	}
	return r
}

// note copies the rule's facts into the record.
func (x *exchange) note(r *policy.Rule) {
	x.rec.Policy, x.rec.PolicyDigest, x.rec.Owner = r.Policy, r.Digest, r.Owner
	x.rec.Environment, x.rec.PathTemplate = r.Environment, r.PathTemplate
	if r.Credential != nil && !x.decision.Observed {
		x.rec.Credential = r.Credential.Name
	}
}

// upgradeAllowed lets an Upgrade through only where the rule names its protocol (MUST H5).
func (x *exchange) upgradeAllowed(rule *policy.Rule) *refusal {
	h := x.r.Header
	if len(h["Upgrade"]) == 0 || !httpguts.HeaderValuesContainsToken(h["Connection"], "Upgrade") {
		return nil
	}
	if rule != nil && len(h["Upgrade"]) == 1 {
		for _, p := range rule.Upgrade {
			if strings.EqualFold(p, h["Upgrade"][0]) {
				return nil
			}
		}
	}
	return refuse(reasonUpgrade, nil)
}

// equip gets the credential. Without one nothing is sent (MUST C1).
func (x *exchange) equip() *refusal {
	if x.observed || x.decision.Rule.Credential == nil {
		return nil
	}
	begin := time.Now()
	defer func() { x.rec.TCredential = time.Since(begin) }()
	x.key = credentialKey(x.decision.Rule.Credential, x.ask)
	cred, ref := x.s.credential(x.ctx, x.key, x.c.caller)
	if ref != nil && x.ctx.Err() != nil { // it left while we waited: nobody else is at fault
		return refuse(reasonClientGone, context.Cause(x.ctx))
	}
	if ref != nil {
		return ref
	}
	x.cred = cred
	x.rec.Fingerprint = cred.Fingerprint()
	if c, ok := cred.(credential.Checker); ok {
		if err := c.Check(x.r, x.c.target.Host); err != nil {
			return applyRefusal(err)
		}
	}
	return nil
}

// credentialKey is the one place where a rule becomes the name of a cached value
// (MUST C2, C3).
func credentialKey(c *policy.Credential, ask policy.Request) credential.Key {
	k := credential.Key{
		ID: ask.ID, Provider: c.Name, Generation: c.Generation,
		Audience: c.Audience, Scopes: c.Scopes, Resource: c.Resource,
	}
	if c.Shared {
		k.ID = spiffeid.ID{}
	}
	return k
}

// credential asks the source within the node's patience and maps its errors.
func (s *Server) credential(ctx context.Context, k credential.Key, subject credential.Subject) (credential.Credential, *refusal) {
	cred := s.deps.Credentials.Held(k, subject)
	if cred == nil {
		ctx, cancel := context.WithTimeout(ctx, s.limits.CredentialWait)
		defer cancel()
		var err error
		if cred, err = s.deps.Credentials.Credential(ctx, k, subject); err != nil {
			return nil, credentialRefusal(err)
		}
	}
	if e := cred.Expires(); !e.IsZero() && !time.Now().Before(e) {
		return nil, refuse(reasonCredExpired, nil)
	}
	return cred, nil
}

func credentialRefusal(err error) *refusal {
	var ce *credential.Error
	if !errors.As(err, &ce) {
		return refuse(reasonCredUnreachable, err)
	}
	reasons := map[credential.Kind]policy.Reason{
		credential.Unreachable: reasonCredUnreachable, credential.Refused: reasonCredRefused,
		credential.Expired: reasonCredExpired, credential.NotMinted: reasonCredNotMinted,
		credential.Unconfigured: reasonCredUnknown, credential.Backoff: reasonCredBackoff,
	}
	ref := refuse(orReason(reasons[ce.Kind], reasonCredUnreachable), err)
	if ce.RetryAfter > 0 {
		ref.retryAfter = int(ce.RetryAfter/time.Second) + 1
	}
	return ref
}

// forward hands the request to the upstream and copies the answer back.
func (x *exchange) forward() {
	x.c.add(x) // from here on the watcher may cut it; what it reads is not written any more
	if cause := x.c.cutCause(); cause != nil {
		x.cancel(cause) // the cut came just before
	}
	x.s.forward.forward(x)
	x.settle()
}

// refuse answers and notes a refusal. After the response has begun it can only cut.
func (x *exchange) refuse(ref *refusal) {
	x.mark(ref)
	if denial(ref.reason.Layer()) {
		x.rec.Verdict = policy.Deny.String()
	}
	if x.w.status != 0 || ref.reason == reasonClientGone {
		panic(http.ErrAbortHandler)
	}
	x.rec.Status = writeRefusal(x.w, x.r, ref, x.rec.ID)
}

// announce adds to the final response header what egret has to say; it is called right
// before the header is sent, so that no informational answer carries or clears it.
func (x *exchange) announce(h http.Header) {
	if x.closing {
		h.Set("Connection", "close") // HTTP/2: GOAWAY
	}
	if h["Egret-Decision"] != nil { // a refusal
		return
	}
	var reason policy.Reason
	if x.refused {
		reason = reasonUpstreamAuth
		h.Set("Proxy-Status", proxyStatus(reason))
	}
	x.own.decision[0] = decisionHeader(reason, x.rec.ID)
	h["Egret-Decision"] = x.own.decision[:]
}

// mark notes why the exchange did not go as it should.
func (x *exchange) mark(ref *refusal) {
	x.rec.Layer, x.rec.Reason = ref.reason.Layer(), ref.reason.Code()
	if ref.err != nil {
		x.rec.Detail = ref.err.Error()
	}
}

// finish writes the record. It runs on every way out of ServeHTTP, panics included.
func (x *exchange) finish(p any) {
	x.c.remove(x)
	x.mu.Lock()
	x.done = true // from here on the watcher keeps its hands off
	if x.started {
		x.rec.Kind = audit.KindStreamEnd
	}
	x.mu.Unlock()
	x.blame(p)
	x.stop(nil)
	x.rec.BytesIn, x.rec.BytesOut = x.bodyIn.Load()+x.w.upIn.Load(), x.w.n.Load()
	if x.rec.Status == 0 {
		x.rec.Status = x.w.status
	}
	x.rec.TTotal = x.before + time.Since(x.start)
	x.s.original(&x.rec, x.c)
	x.s.metrics.served(x)
	if x.slot == nil {
		x.s.metrics.lost.Inc()
		return
	}
	x.slot.Write(x.rec)
}

// statusClientGone is what records show where the client left before an answer.
const statusClientGone = 499

// blame finds out why a response was cut short, where nobody has said so yet.
func (x *exchange) blame(p any) {
	if p != nil && p != http.ErrAbortHandler { //nolint:errorlint // a panic value, compared as net/http does
		x.s.deps.Logger.Error("panic while serving a request", "id", x.rec.ID, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
	cause := context.Cause(x.ctx)
	ref, ended := errors.AsType[*refusal](cause)
	switch {
	case ended:
		x.mark(ref)
	case p == nil || x.rec.Reason != "":
	case x.readErr != nil && x.ctx.Err() == nil && !x.bodyErr.Load():
		x.mark(refuse(brokenAnswer(x.readErr), x.readErr))
	default:
		x.mark(refuse(reasonClientGone, cause))
	}
	if x.w.status == 0 && x.rec.Status == 0 && x.rec.Layer == reasonClientGone.Layer() {
		x.rec.Status = statusClientGone
	}
}

// methodForRecord keeps hostile method names out of records and metrics.
func methodForRecord(m string) string {
	if len(m) > 32 {
		return m[:32]
	}
	return m
}
