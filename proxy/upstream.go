// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/internal/wireerr"
	"github.com/egret-proxy/egret/policy"
)

// wire is the last stage: it takes a verified upstream connection, applies the
// credential and sends. It follows no redirect and keeps no cookie.
type wire struct{ s *Server }

// RoundTrip implements http.RoundTripper for the library's forwarder.
func (w wire) RoundTrip(req *http.Request) (*http.Response, error) {
	return w.carry(exchangeFrom(req.Context()), req)
}

// carry sends the request of an exchange and returns the answer's header.
func (w wire) carry(x *exchange, req *http.Request) (*http.Response, error) {
	begin := time.Now()
	defer func() { x.rec.TUpstream = time.Since(begin) }()
	if err := x.c.dialErr; err != nil && x.c.requests.Load() == 1 && time.Since(x.c.admitted) < alpnDial+dialErrFor {
		return nil, err // found out while the client's handshake waited; the next request tries again
	}
	resp, err := w.send(x, req, x.cred)
	if err != nil || x.cred == nil || !refusedCredential(resp, x.c.dest.Refused) {
		return resp, err
	}
	return w.renew(x, req, resp)
}

// dialErrFor is how long a failed look at the upstream answers for the first request.
const dialErrFor = 2 * time.Second

// renew handles a credential that the SaaS refused (MUST C7): exactly that value is
// dropped and one new one is fetched; the request is repeated only if it had no body and
// repeating it is safe. Otherwise the SaaS's own answer goes through, and a header says
// whose fault it is.
func (w wire) renew(x *exchange, req *http.Request, resp *http.Response) (*http.Response, error) {
	w.s.deps.Credentials.Invalidate(x.key, x.cred.Fingerprint())
	if req.Body == nil && idempotent(req.Method) {
		cred, ref := w.s.credential(x.ctx, x.key, x.c.caller)
		if ref == nil && cred.Fingerprint() != x.cred.Fingerprint() {
			again, err := w.send(x, req, cred)
			if err == nil {
				_ = resp.Body.Close()
				resp = again
				x.rec.Fingerprint = cred.Fingerprint()
				x.renewed(cred)
				if !refusedCredential(resp, x.c.dest.Refused) {
					w.s.metrics.replayed.Inc()
					return resp, nil
				}
				w.s.deps.Credentials.Invalidate(x.key, cred.Fingerprint())
			}
		}
	}
	x.rec.Layer, x.rec.Reason = reasonUpstreamAuth.Layer(), reasonUpstreamAuth.Code()
	x.refused = true
	return resp, nil
}

// renewed notes that another credential is in use; the watcher may be reading.
func (x *exchange) renewed(cred credential.Credential) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.cred = cred
}

// idempotent methods may be sent twice (RFC 9110, 9.2.2).
func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// send makes one attempt, and a second one on a new connection where a kept one turned
// out to be dead and repeating cannot do harm.
func (w wire) send(x *exchange, req *http.Request, cred credential.Credential) (*http.Response, error) {
	hop := x.c.hop(nil)
	if cred != nil {
		hop.Certificate = cred.ClientCertificate()
	}
	n := need{proto: protoH1, fresh: req.Body != nil, upgrade: len(req.Header["Upgrade"]) > 0}
	if x.r.ProtoMajor == 2 {
		n.proto = protoH2
	}
	resp, stale, err := w.attempt(x, req, hop, n, cred)
	if stale && req.Body == nil && idempotent(req.Method) && x.ctx.Err() == nil {
		n.brand = true
		resp, _, err = w.attempt(x, req, hop, n, cred)
	}
	if errors.Is(err, errALPN) {
		w.s.deps.Upstream.forget(hop)
		x.closing = true // the client's next connection learns the new protocol
	}
	return resp, err
}

// attempt sends once. The connection has been verified for the rule's host before the
// credential is applied, and nothing touches the headers after that. stale: it failed
// because a kept connection was dead.
func (w wire) attempt(x *exchange, req *http.Request, hop Hop, n need, cred credential.Credential) (resp *http.Response, stale bool, err error) {
	uc, reused, err := w.s.deps.Upstream.acquire(req.Context(), hop, n)
	if err != nil {
		return nil, false, err
	}
	x.rec.UpstreamIP = uc.address
	out := req
	if cred != nil {
		out = x.withOwnHeader(req)
		if err := x.apply(cred, out); err != nil {
			uc.cc.Release()
			return nil, false, applyRefusal(err)
		}
		x.injected = injectedValues(x.injected, req, out)
	}
	resp, err = uc.roundTrip(out, x)
	if err != nil {
		if uc.cc.Err() != nil || n.proto == protoH1 {
			w.s.deps.Upstream.drop(uc)
		}
		return nil, reused && uc.untouched(err), wireerr.Wrap(err)
	}
	resp.Request = req // without the credential: nothing downstream can leak it
	return resp, false, nil
}

// bodyHold is how long a credential that signs may read a body before it is sent.
const bodyHold = 30 * time.Second

// apply puts the credential in. What a credential reads of the body for that is bounded
// in bytes by itself, and in time here: by bodyHold, and by the end of the exchange.
func (x *exchange) apply(cred credential.Credential, out *http.Request) error {
	if out.Body == nil {
		return cred.Apply(out)
	}
	ctx, cancel := context.WithTimeout(out.Context(), bodyHold)
	stop := context.AfterFunc(ctx, x.stopReading)
	err := cred.Apply(out)
	stop()
	defer cancel()
	var ref *refusal
	switch cause := context.Cause(x.ctx); {
	case err == nil:
		return nil
	case errors.As(cause, &ref):
		return ref
	case cause != nil:
		return refuse(reasonClientGone, cause)
	case ctx.Err() != nil:
		return refuse(reasonSignature, fmt.Errorf("the body did not come within %s to be signed", bodyHold))
	case x.bodyErr.Load():
		return refuse(reasonClientGone, wireerr.Wrap(err))
	}
	return err
}

// applyRefusal tells whose fault it is that a credential cannot be put in.
func applyRefusal(err error) *refusal {
	if ref, ok := errors.AsType[*refusal](err); ok {
		return ref
	}
	if errors.Is(err, credential.ErrCallerSignature) {
		return refuse(reasonSignature, err)
	}
	return refuse(reasonCredApply, err)
}

// withOwnHeader copies the request with headers and URL of its own, so that the
// credential is in no request that anybody else holds. The first copy is part of the exchange;
// whoever sends it may still hold it when there is need of another.
func (x *exchange) withOwnHeader(req *http.Request) *http.Request {
	out, u := &x.own.sent, &x.own.sentURL
	if out.URL != nil {
		out, u = new(http.Request), new(url.URL)
	}
	*out, *u = *req, *req.URL
	out.Header, out.URL = maps.Clone(req.Header), u
	return out
}

// classifyUpstream says in the product's words why there is no response. The text of a
// cause goes into records: those that hold what an upstream sent have been wrapped where
// they arose (package wireerr), and the last one here is whatever is left.
func classifyUpstream(err error) *refusal {
	var ref *refusal
	var ne net.Error
	var verify *tls.CertificateVerificationError
	switch {
	case errors.As(err, &ref):
		return ref
	case errors.Is(err, credential.ErrCallerSignature): // found while the body was signed
		return refuse(reasonSignature, err)
	case errors.Is(err, errProxy): // before all that it wraps: the SaaS is not at fault
		return refuse(reasonUpstreamProxy, err)
	case errors.Is(err, errVerify), errors.As(err, &verify):
		return refuse(reasonTLS, err)
	case errors.Is(err, errPrivate):
		return refuse(reasonPrivateAddress, err)
	case errors.Is(err, errALPN):
		return refuse(reasonProtocol, err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, errDialTimeout), errors.As(err, &ne) && ne.Timeout():
		return refuse(reasonTimeout, err)
	case errors.Is(err, errDNS):
		return refuse(reasonDNS, err)
	case errors.Is(err, errConnect):
		return refuse(reasonConnect, err)
	}
	return refuse(brokenAnswer(err), fmt.Errorf("while waiting for the answer: %w", wireerr.Wrap(err)))
}

// brokenAnswer tells an answer that is no HTTP from a connection that broke.
func brokenAnswer(err error) policy.Reason {
	if wireerr.Malformed(err) {
		return reasonMalformed
	}
	return reasonReset
}
