// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package policy decides: may this workload do this, and with which credential?
// It is pure. It does no I/O, reads no clock, writes no log and holds no state that
// changes: a Policy is compiled once from governed objects (package api) and then
// only read. A reload makes a new one. The zero value of everything denies.
package policy

import (
	"crypto/x509"
	"net/netip"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/policy/operation"
)

// Verdict is the answer to a connection or a request. The zero Verdict is Deny.
type Verdict int

// Verdicts.
const (
	Deny   Verdict = iota
	Tunnel         // pass bytes unread; no credential can be put in
	Allow          // intercept (Connect) or forward (Request)
)

// String returns "deny", "tunnel" or "allow".
func (v Verdict) String() string {
	switch v {
	case Allow:
		return "allow"
	case Tunnel:
		return "tunnel"
	}
	return "deny"
}

// Reason says why something was refused, as "layer/code", for example
// "policy/path_not_allowed". It is part of the product's interface: applications,
// dashboards and alert rules match on it. The empty Reason means "not refused".
type Reason string

// Layer returns the part before the slash: whose fault it is.
func (r Reason) Layer() string { l, _, _ := strings.Cut(string(r), "/"); return l }

// Code returns the part after the slash.
func (r Reason) Code() string { _, c, _ := strings.Cut(string(r), "/"); return c }

// Reasons that this package gives. Package proxy declares those of the other layers.
const (
	ReasonUnknownWorkload     Reason = "identity/unknown_workload"
	ReasonUnlistedHost        Reason = "target/unlisted_host"
	ReasonNotLoaded           Reason = "policy/not_loaded" // the zero Policy
	ReasonNoPolicy            Reason = "policy/no_policy"  // nothing grants this workload this destination
	ReasonMethodNotAllowed    Reason = "policy/method_not_allowed"
	ReasonPathNotAllowed      Reason = "policy/path_not_allowed"
	ReasonOperationNotAllowed Reason = "policy/operation_not_allowed"
	ReasonMintingNotAllowed   Reason = "policy/minting_not_allowed" // the call hands out a secret, and the policy does not name it
	ReasonAmbiguousPath       Reason = "policy/ambiguous_path"
	ReasonWeakEvidence        Reason = "policy/weak_evidence"
	ReasonExpired             Reason = "policy/expired"
	ReasonOutsideSchedule     Reason = "policy/outside_schedule"
)

// Target is where a connection goes: a canonical host (lower-case A-label or IP
// literal, no trailing dot) and an explicit port. Comparable. Make one only with
// ParseTarget or from values that ParseHost returned.
type Target struct {
	Host string
	Port uint16
}

// Request is one question. Path is the raw, still encoded request path (without
// query) exactly as it would be sent on.
type Request struct {
	ID       spiffeid.ID
	Evidence string // one of the identity.Evidence constants
	Target   Target
	Method   string
	Path     string
	At       time.Time

	// Operations is what an extractor read where method and path do not tell; empty where
	// it had no result. It means nothing unless Read says that it was asked. A request
	// with several operations needs a grant for each.
	Operations []string
	Read       bool
}

// Workload is the compiled form of the governed object. Immutable.
type Workload struct {
	Name        string
	Owner       string
	Purpose     string
	Environment string
	Evidence    []string // accepted kinds
	Schedule    Schedule // nil: always
}

// Schedule tells when a scheduled workload may run. Implementations are pure and
// safe for concurrent use.
type Schedule interface {
	Active(at time.Time) bool
}

// Destination is the compiled form of the governed object: everything that the data
// path needs to know about a SaaS. Immutable; compared by pointer.
type Destination struct {
	Name         string
	Hosts        []string // canonical; "*.example.com" is exactly one label
	Ports        []uint16
	Intercept    bool           // false: tunnelled unread
	Dial         string         // "host:port" to connect to instead of resolving; "" = resolve
	Roots        *x509.CertPool // nil: the node's roots
	RootsDigest  string         // names Roots in pool keys; "" for the node's roots
	AllowPrivate []netip.Prefix // private ranges that the names may resolve to
	Refused      *Refused       // how this SaaS refuses a credential where it is not a 401

	Operation       *operation.Extractor // tells what is done where method and path do not; nil: they do
	BodyCredentials []string             // fields of a body that carry a credential here (MUST H4, H16)
}

// Refused recognises a refused credential for APIs that do not use 401. Either is enough.
type Refused struct {
	JSON       map[string][]string // top-level members of a JSON body: every key with one of its values (booleans and numbers in their JSON text form)
	ErrorCodes []string            // names of errors of AWS in answers with 4xx
}

// Credential names what to put in; package credential turns it into a value.
type Credential struct {
	Name       string
	Generation string // digest of the Credential's configuration
	Shared     bool   // one value for all workloads (static keys); otherwise one per SPIFFE ID
	Audience   string
	Scopes     string // sorted, space separated
	Resource   string
}

// Rule is one operation that is granted: an entry of an AccessPolicy, flattened.
// Immutable; the data path carries it by pointer and asks nothing again.
type Rule struct {
	Policy       string // name of the AccessPolicy
	Owner        string // its owner
	Workload     *Workload
	Destination  *Destination
	Environment  string
	Credential   *Credential // nil: forwarded without a credential, because the policy says credential: none
	PathTemplate string      // as written in the policy; "/**" for a tunnel. Grammar: CheckTemplate
	Methods      []string    // empty: all methods that the data path accepts
	Operations   []string    // empty: any, also none that is known. Grammar: CheckOperation
	Minting      []string    // ids of package minting that it grants (MUST H11)
	Encoded      bool        // matched on raw segments (MUST H6)
	Expires      time.Time   // first instant at which it no longer grants
	ReviewBy     time.Time   // zero: none
	AllowHeaders []string    // canonical names that pass although egret removes them by default
	AllowQuery   []string    // query parameters that pass although they choose an identity or a tenant
	Upgrade      []string    // protocols that Upgrade may name, lower case
	SetCookie    bool        // pass Set-Cookie of responses
	WWWAuth      bool        // pass WWW-Authenticate of responses
	Mask         bool        // mask the credential in bodies of responses (MUST H10)
	MaxStream    time.Duration
	Observe      bool   // mode: observe; never set for a tunnel
	Digest       string // short digest of the policy, credential and destination that make this rule
}

// Admission answers Connect. For Allow and Tunnel, Destination is set, except for a
// Tunnel to a host that no destination lists (egress.unlisted: tunnel). Rule is set
// for a Tunnel that an AccessPolicy grants. Workload is set as soon as the ID is known.
type Admission struct {
	Verdict     Verdict
	Destination *Destination
	Workload    *Workload
	Rule        *Rule
	Reason      Reason
	Revoked     string // with ReasonRevoked: the label of what revoked it; Rule is then the grant, if there is one
}

// Decision answers Request. Rule is set for Allow. Observed is set where the rule's
// mode is observe: the request is forwarded with the caller's own headers, and
// Verdict and Reason are what enforce would have said. So with Observed a Deny is
// forwarded too; its Rule is then one of the observing rules, for limits and the record.
// Workload is set as soon as the ID is known.
//
// Extract is set where the answer hangs on what the request does and nobody has read that
// yet: run the extractor and ask again, with Read. Until then it is a denial.
type Decision struct {
	Verdict  Verdict
	Rule     *Rule
	Workload *Workload
	Observed bool
	Reason   Reason
	Revoked  string // with ReasonRevoked: the label of what revoked it; Rule is then the one that would decide, if any
	Minting  string // id of the call in the list of package minting, with ReasonMintingNotAllowed
	Extract  *operation.Extractor
}
