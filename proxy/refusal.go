// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/egret-proxy/egret/policy"
)

// Reasons of the layers that this package is responsible for. Those of the layer
// "policy" are in package policy.
const (
	reasonNoIdentity      policy.Reason = "identity/no_evidence"
	reasonRewritten       policy.Reason = "identity/port_rewritten"
	reasonInvalidEvidence policy.Reason = "identity/invalid_evidence"
	reasonSVIDExpired     policy.Reason = "identity/svid_expired"
	reasonSVIDRevoked     policy.Reason = "identity/svid_revoked"
	reasonCallerGone      policy.Reason = "identity/caller_gone"
	reasonWrongAudience   policy.Reason = "identity/wrong_audience"
	reasonTrustDomain     policy.Reason = "identity/trust_domain"
	reasonNoSource        policy.Reason = "identity/source_unavailable"

	reasonBadTarget       policy.Reason = "target/bad_target"
	reasonAuthority       policy.Reason = "target/authority_mismatch"
	reasonNoSNI           policy.Reason = "target/no_sni"
	reasonPlaintext       policy.Reason = "target/plaintext"
	reasonPrivateAddress  policy.Reason = "target/private_address"
	reasonMethod          policy.Reason = "target/method"
	reasonEarlyData       policy.Reason = "target/early_data"
	reasonQueryCredential policy.Reason = "target/credential_in_query"
	reasonQueryOverride   policy.Reason = "target/method_override"
	reasonQuerySelector   policy.Reason = "target/selector_in_query"
	reasonBodyCredential  policy.Reason = "target/credential_in_body"
	reasonSignature       policy.Reason = "target/caller_signature"
	reasonNoLeaf          policy.Reason = "target/no_certificate"
	reasonLoop            policy.Reason = "target/loop"
	reasonBadHello        policy.Reason = "target/bad_hello"
	reasonNotTLS          policy.Reason = "target/not_tls"

	reasonUpgrade policy.Reason = "policy/upgrade_not_allowed"
	reasonRevoked               = policy.ReasonRevoked

	reasonCredUnreachable policy.Reason = "credential/provider_unreachable"
	reasonCredRefused     policy.Reason = "credential/provider_refused"
	reasonCredExpired     policy.Reason = "credential/expired"
	reasonCredNotMinted   policy.Reason = "credential/not_minted"
	reasonCredUnknown     policy.Reason = "credential/unconfigured"
	reasonCredBackoff     policy.Reason = "credential/provider_backoff"
	reasonCredApply       policy.Reason = "credential/not_applicable"

	reasonUpstreamAuth policy.Reason = "upstream-auth/credential_refused"

	reasonDNS           policy.Reason = "upstream/dns"
	reasonConnect       policy.Reason = "upstream/connect"
	reasonTLS           policy.Reason = "upstream/tls_unverified"
	reasonTimeout       policy.Reason = "upstream/timeout"
	reasonReset         policy.Reason = "upstream/reset"
	reasonProtocol      policy.Reason = "upstream/protocol"
	reasonMalformed     policy.Reason = "upstream/malformed"
	reasonEncoded       policy.Reason = "upstream/encoded_body"
	reasonUpstreamProxy policy.Reason = "upstream/proxy"

	reasonTooMany     policy.Reason = "limit/too_many_connections"
	reasonHeaderSize  policy.Reason = "limit/header_too_large"
	reasonBacklog     policy.Reason = "limit/audit_backlog"
	reasonBadRequest  policy.Reason = "limit/bad_request"
	reasonHandshake   policy.Reason = "limit/handshake_timeout"
	reasonMaxStream   policy.Reason = "limit/max_stream"
	reasonTunnelIdle  policy.Reason = "limit/tunnel_idle"
	reasonDrain       policy.Reason = "limit/drain"
	reasonRate        policy.Reason = "limit/rate"
	reasonClientTrust policy.Reason = "client/untrusted_ca"
	reasonClientTLS   policy.Reason = "client/tls"

	reasonNoCommonProto policy.Reason = "client/no_common_protocol"

	reasonClientGone policy.Reason = "client/closed"
	// A client that checks the certificate after the handshake says no more than this.
	reasonClientUnused policy.Reason = "client/closed_unused"
)

// ReasonInfo documents one reason: what the application gets and what to do.
type ReasonInfo struct {
	Reason policy.Reason
	Status int    // HTTP status inside TLS; 0 where the application gets no answer
	Title  string // what happened, told to the application
	Hint   string // what to do next, told to the application
}

// Reasons returns every reason with its status and words, for the reference and for
// the answers. It is the one place where they are written.
func Reasons() []ReasonInfo { return append([]ReasonInfo(nil), reasonTable...) }

//nolint:gochecknoglobals // a constant table
var reasonTable = []ReasonInfo{
	{reasonNoIdentity, 403, "the caller presented no identity", "use a listener that knows this caller, or present an SVID"},
	{reasonRewritten, 0, "netfilter has changed the connection's source port or address on its way to egret, so that the program behind it cannot be found", "connect again; so that it cannot happen, redirect with --mode tproxy, and let no rule of SNAT or MASQUERADE change what goes to loopback"},
	{reasonInvalidEvidence, 403, "the evidence of identity is not valid", "fetch a new SVID from the Workload API"},
	{reasonSVIDExpired, 403, "the caller's SVID has expired", "check that the Workload API answers on this node"},
	{reasonSVIDRevoked, 403, "nobody vouches for the caller any more, or nobody ever did", "fetch a new SVID from the Workload API, or ask the platform team for a registration entry"},
	{reasonCallerGone, 403, "the calling process or pod has ended", "connect again"},
	{reasonWrongAudience, 403, "the JWT-SVID is not for this proxy alone", "fetch a JWT-SVID whose only audience is this proxy's"},
	{reasonTrustDomain, 403, "the trust domain is not accepted here", "ask the platform team which trust domains this node accepts"},
	{reasonNoSource, 503, "egret has no identity yet", "check that the SPIFFE Workload API answers on this node"},
	{policy.ReasonUnknownWorkload, 403, "no Workload names this SPIFFE ID", "ask the platform team for a Workload with an owner"},

	{reasonBadTarget, 400, "the target is not a valid host and port", "use a host name and port 443"},
	{reasonAuthority, 421, "CONNECT, SNI and Host do not name the same target", "use one connection per host"},
	{reasonNoSNI, 421, "the TLS client sent no server name", "use a client that sends SNI"},
	{reasonPlaintext, 403, "egret does not forward plain text", "use https"},
	{reasonPrivateAddress, 403, "the host resolves to an address that is not public", "ask the platform team; a destination may allow private ranges"},
	{reasonMethod, 405, "this method is never forwarded", "use another method"},
	{reasonEarlyData, 400, "data arrived before the tunnel was open", "wait for the answer to CONNECT"},
	{reasonQueryCredential, 403, "the URL carries a credential in its query", "remove it: egret puts the credential in"},
	{reasonQueryOverride, 403, "the URL asks for another method in its query", "send the method itself"},
	{reasonQuerySelector, 403, "the URL chooses an identity or a tenant in its query", "remove it: the credential chooses; or ask the platform team for allowQuery"},
	{reasonBodyCredential, 403, "the body carries a credential, or cannot be searched for one", "remove it: egret puts the credential in; send a plain form or JSON of at most 64 KiB"},
	{reasonSignature, 400, "the request is signed in a way that egret cannot replace, or for another service or region than this host's", "sign with SigV4 and placeholder keys for this host, or do not sign; the record says what is wrong"},
	{reasonNoLeaf, 0, "egret has no certificate for this host", "tell the platform team: no intermediate permits the host, or the issuer does not answer"},
	{reasonLoop, 0, "the connection leads back to egret", "tell the platform team: the redirect must leave egret's own user and its listeners alone"},
	{reasonBadHello, 0, "the first message of TLS is malformed", "check the client"},
	{reasonNotTLS, 0, "a captured connection is neither TLS nor HTTP", "ask the platform team for a Destination that lists its address, with intercept: never"},
	{policy.ReasonUnlistedHost, 403, "no destination lists this host", "ask the platform team for a Destination"},

	{policy.ReasonNotLoaded, 503, "no policy is loaded", "ask the platform team"},
	{policy.ReasonNoPolicy, 403, "no policy grants this workload this destination", "ask for an AccessPolicy with an owner"},
	{policy.ReasonMethodNotAllowed, 403, "the policy does not allow this method here", "ask the policy's owner"},
	{policy.ReasonPathNotAllowed, 403, "the policy does not allow this path", "ask the policy's owner"},
	{policy.ReasonOperationNotAllowed, 403, "the policy does not allow this operation", "ask the policy's owner"},
	{policy.ReasonMintingNotAllowed, 403, "the call would hand out a new credential", "ask the platform team: a policy without scope may name it in minting"},
	{policy.ReasonAmbiguousPath, 403, "the path can be read in more than one way", "send the path in its plain form, without encoded slashes or dot segments"},
	{policy.ReasonWeakEvidence, 403, "this workload must be known by stronger evidence", "use a listener with a stronger identity"},
	{policy.ReasonExpired, 403, "the grant has expired", "ask the policy's owner to review and renew it"},
	{policy.ReasonOutsideSchedule, 403, "the workload is outside its schedule", "run it inside its window, or ask its owner"},
	{reasonUpgrade, 403, "the policy does not allow this protocol upgrade", "ask the policy's owner"},
	{reasonRevoked, 403, "the grant was withdrawn, by hand or while the stream was open", "ask the policy's owner; egret revoke --list shows what was revoked by hand"},

	{reasonCredUnreachable, 503, "the credential's issuer cannot be reached", "try again later; your code is not at fault"},
	{reasonCredRefused, 503, "the credential's issuer refused", "tell the credential's owner; your code is not at fault"},
	{reasonCredExpired, 503, "the credential has expired and could not be renewed", "tell the credential's owner; your code is not at fault"},
	{reasonCredNotMinted, 503, "the issuer's answer held no usable credential", "tell the credential's owner; your code is not at fault"},
	{reasonCredUnknown, 503, "the credential is not configured here", "tell the platform team"},
	{reasonCredBackoff, 503, "the credential's issuer failed a moment ago", "try again later; your code is not at fault"},
	{reasonCredApply, 503, "the credential cannot be put into this request", "tell the credential's owner"},

	{reasonUpstreamAuth, 0, "the SaaS refused egret's credential", "tell the credential's owner; your code is not at fault"},

	{reasonDNS, 502, "the host name could not be resolved", "check the node's DNS"},
	{reasonConnect, 502, "the SaaS could not be reached", "try again later"},
	{reasonTLS, 502, "the SaaS's certificate could not be verified", "tell the platform team"},
	{reasonTimeout, 504, "the SaaS did not answer in time", "try again later"},
	{reasonReset, 502, "the SaaS closed the connection", "try again"},
	{reasonProtocol, 502, "the SaaS spoke another protocol than before", "try again"},
	{reasonMalformed, 502, "the SaaS's answer is not valid HTTP", "tell the platform team: the record says what is wrong with it"},
	{reasonEncoded, 502, "the SaaS sent an answer in which egret cannot mask the credential", "tell the policy's owner: responses.mask is set, and this SaaS does not answer uncompressed"},
	{reasonUpstreamProxy, 502, "the corporate proxy did not open the connection", "tell the platform team"},

	{reasonTooMany, 429, "too many connections", "close idle connections or ask for a higher limit"},
	{reasonRate, 429, "too many new hosts at once", "try again in a moment"},
	{reasonHeaderSize, 431, "the request header is too large", "send smaller headers"},
	{reasonBacklog, 503, "the audit log cannot keep up", "tell the platform team: nothing is sent that cannot be recorded"},
	{reasonBadRequest, 400, "the connection ended without a well-formed request", "check the client"},
	{reasonHandshake, 0, "the TLS handshake took too long", "check the client"},
	{reasonMaxStream, 503, "the stream reached its maximum age", "connect again"},
	{reasonTunnelIdle, 0, "the tunnel was idle for too long", "connect again"},
	{reasonDrain, 503, "egret is shutting down", "connect again"},

	{reasonClientTrust, 0, "the client does not trust egret's CA", "give the client egret's bundle: egret exec, or the CA variables of its runtime"},
	{reasonClientTLS, 0, "the client's TLS handshake failed", "check the client"},
	{reasonNoCommonProto, 0, "the client speaks only HTTP/2 and the SaaS only HTTP/1.1", "let the client offer http/1.1 too"},
	{reasonClientUnused, 0, "the client closed right after the handshake, as some do that do not trust egret's CA", "give the client egret's bundle: egret exec, or the CA variables of its runtime"},
	{reasonClientGone, 0, "the client went away", "nothing"},
}

// refusal is one refusal: what is told (Reason and its words) and what is only logged (err).
type refusal struct {
	reason     policy.Reason
	err        error // for the record's detail and the log, never for the application
	retryAfter int   // seconds; 0: none
}

func (r *refusal) Error() string {
	if r.err == nil {
		return string(r.reason)
	}
	return string(r.reason) + ": " + r.err.Error()
}

func (r *refusal) Unwrap() error { return r.err }

func refuse(reason policy.Reason, err error) *refusal { return &refusal{reason: reason, err: err} }

// by adds to a refusal, for the record, the label of the revocation that it is due to; ""
// where none is.
func (r *refusal) by(label string) *refusal {
	if label != "" {
		r.err = errors.New(label)
	}
	return r
}

// nowDenied ends what policy has allowed before.
func nowDenied(reason policy.Reason, label string) *refusal {
	if label != "" {
		return refuse(reasonRevoked, nil).by(label)
	}
	return refuse(reasonRevoked, fmt.Errorf("now %s", reason))
}

// info finds the words of a reason. An unknown one is told as a 403 without words, so
// that a reason that somebody forgot to list still refuses.
func info(reason policy.Reason) ReasonInfo {
	for i := range reasonTable {
		if reasonTable[i].Reason == reason {
			return reasonTable[i]
		}
	}
	return ReasonInfo{Reason: reason, Status: http.StatusForbidden, Title: "refused"}
}

// decisionHeader is the value of Egret-Decision.
func decisionHeader(reason policy.Reason, id string) string {
	if reason == "" {
		return "allow; id=" + id
	}
	return reason.Layer() + "; reason=" + reason.Code() + "; id=" + id
}

// problem is the body of a refusal (RFC 9457).
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	Layer  string `json:"layer"`
	Reason string `json:"reason"`
	ID     string `json:"id"`

	AMZType string `json:"__type,omitempty"` // for AWS's clients
	Message string `json:"message,omitempty"`
}

func newProblem(i ReasonInfo, status int, id string) problem {
	return problem{
		Type: "https://egret.dev/reasons/" + string(i.Reason), Title: i.Title, Status: status, Detail: i.Hint,
		Layer: i.Reason.Layer(), Reason: i.Reason.Code(), ID: id,
	}
}

func (p problem) body() []byte {
	b, err := json.Marshal(p)
	if err != nil { // strings only: cannot happen
		return nil
	}
	return append(b, '\n')
}

// setRefusalHeaders writes what every refusal carries, on CONNECT and inside TLS.
func setRefusalHeaders(h http.Header, ref *refusal, id string) {
	h.Set("Proxy-Status", proxyStatus(ref.reason))
	h.Set("Egret-Decision", decisionHeader(ref.reason, id))
	h.Set("Cache-Control", "no-store")
	if ref.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(ref.retryAfter))
	}
}

// writeRefusal answers a request inside TLS and returns the status that was sent.
func writeRefusal(w http.ResponseWriter, r *http.Request, ref *refusal, id string) int {
	i := info(ref.reason)
	h := w.Header()
	closing := h["Connection"]
	clear(h)
	if closing != nil {
		h["Connection"] = closing
	}
	setRefusalHeaders(h, ref, id)
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		return writeGRPCRefusal(w, i)
	}
	status := i.Status
	if status == 0 {
		status = http.StatusForbidden
	}
	body := refusalBody(h, r.Header, i, status, id)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
	return status
}

// refusalBody is the body in the form that the client reads, and sets the header of its type.
func refusalBody(h, from http.Header, i ReasonInfo, status int, id string) []byte {
	p := newProblem(i, status, id)
	if speaksAMZ(from) {
		h.Set(amzErrorType, amzCode(i))
		h.Set("X-Amz-Request-Id", id) // all that an answer to HEAD can say
		if b := amzXML(from, i, status, id); b != nil {
			h.Set("Content-Type", "application/xml")
			return b
		}
		p.AMZType, p.Message = amzCode(i), amzMessage(i, id)
	}
	h.Set("Content-Type", "application/problem+json")
	return p.body()
}

// writeGRPCRefusal answers with a trailers-only response (gRPC over HTTP/2, "Responses").
func writeGRPCRefusal(w http.ResponseWriter, i ReasonInfo) int {
	h := w.Header()
	h.Set("Content-Type", "application/grpc")
	h.Set("Grpc-Status", strconv.Itoa(grpcStatus(i)))
	h.Set("Grpc-Message", "egret: "+i.Title+" ("+string(i.Reason)+")")
	w.WriteHeader(http.StatusOK)
	return http.StatusOK
}

// Status codes of gRPC that refusals use (google.golang.org/grpc/codes).
const (
	grpcPermissionDenied  = 7
	grpcResourceExhausted = 8
	grpcUnavailable       = 14
	grpcUnauthenticated   = 16
)

func grpcStatus(i ReasonInfo) int {
	switch i.Reason.Layer() {
	case "identity":
		return grpcUnauthenticated
	case "credential", "upstream":
		return grpcUnavailable
	case "limit":
		return grpcResourceExhausted
	}
	return grpcPermissionDenied
}

// proxyStatus maps a reason to an RFC 9209 error type where one fits.
func proxyStatus(reason policy.Reason) string {
	t := map[policy.Reason]string{
		reasonDNS:                 "dns_error",
		reasonConnect:             "connection_refused",
		reasonTLS:                 "tls_certificate_error",
		reasonTimeout:             "http_response_timeout",
		reasonReset:               "connection_terminated",
		reasonProtocol:            "http_protocol_error",
		reasonMalformed:           "http_protocol_error",
		reasonPrivateAddress:      "destination_ip_prohibited",
		policy.ReasonUnlistedHost: "destination_not_found",
		reasonTooMany:             "connection_limit_reached",
		reasonHeaderSize:          "http_request_error",
	}[reason]
	if t == "" {
		switch reason.Layer() {
		case "policy", "identity":
			t = "http_request_denied"
		case "credential", "upstream":
			t = "destination_unavailable"
		default:
			t = "http_request_error"
		}
	}
	return `egret; error=` + t + `; details="` + string(reason) + `"`
}
