// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package audit writes down what egret did: one record per request, exactly once,
// in the place that was reserved for it before a credential was applied (MUST A1).
// It decides nothing and never blocks the request path on a disk.
package audit

import (
	"errors"
	"time"
)

// Schema names the version of Record's JSON form.
const Schema = "egret.dev/record/v1"

// Log takes records. Safe for concurrent use.
type Log interface {
	// Begin reserves a place. Any error (ErrFull, ErrClosed) means that nothing may be
	// sent. Where the node chose to drop, Begin never fails and the loss is counted.
	Begin() (Slot, error)
}

// Slot is one reserved place. Exactly one of Write and Cancel must be called, once; Write does not block
// and does not keep r. A second call panics in tests and is counted and ignored
// otherwise, as long as the place has not been given to another request.
//
// Cancel gives the place back instead, where what it was reserved for did not begin.
type Slot interface {
	Write(r Record)
	Cancel()
}

// ErrFull: the queue has no free place, or the sink takes no records.
var ErrFull = errors.New("audit queue is full")

// Kinds of record.
const (
	KindRequest     = "request"      // one request, inside TLS or refused at CONNECT
	KindStreamStart = "stream_start" // a tunnel, WebSocket or long stream begins
	KindStreamEnd   = "stream_end"
	KindHandshake   = "handshake" // the client did not complete TLS with us
	KindAdmin       = "admin"     // a call on the admin socket
)

// What the caller itself sent as a credential (field caller_credential).
const (
	CallerNone        = "none"
	CallerPlaceholder = "placeholder"
	CallerOwn         = "own"
	CallerSameAsOurs  = "same_as_ours"
)

// Record is one line. It holds no query, no header value, no body and no token.
// Durations are nanoseconds in Go and microseconds (integers) in JSON; zero values of
// optional fields are left out.
type Record struct {
	Schema           string        `json:"schema"`                        // the constant Schema
	Kind             string        `json:"kind"`                          // one of the kinds above
	Time             time.Time     `json:"time"`                          // start of the request, UTC, RFC 3339 with microseconds
	ID               string        `json:"id"`                            // of the request; the application is told the same
	Node             string        `json:"node,omitempty"`                // the node setting of egret.yaml
	Listener         string        `json:"listener,omitempty"`            // name of the entrance
	Pod              string        `json:"pod,omitempty"`                 // whose network namespace the connection came from, where egret steer leads it here
	Workload         string        `json:"workload,omitempty"`            // SPIFFE ID
	Evidence         string        `json:"evidence,omitempty"`            // how the workload was known: sidecar, process, pod, x509-svid, jwt-svid, token
	Owner            string        `json:"owner,omitempty"`               // of the policy, else of the workload
	Policy           string        `json:"policy,omitempty"`              // name of the AccessPolicy that decided; of a denial, the one that came nearest
	PolicyDigest     string        `json:"policy_digest,omitempty"`       // of the rule: its policy, credential and destination
	PolicySet        string        `json:"policy_set,omitempty"`          // digest of everything that was in force, as egret_policy_info has it
	Credential       string        `json:"credential,omitempty"`          // name of the Credential
	Fingerprint      string        `json:"fingerprint,omitempty"`         // of the credential that was sent; never the value
	Environment      string        `json:"environment,omitempty"`         // of the workload
	Method           string        `json:"method,omitempty"`              // of the request
	Host             string        `json:"host,omitempty"`                // canonical target
	Port             uint16        `json:"port,omitempty"`                // of the target
	PathTemplate     string        `json:"path_template,omitempty"`       // the rule's template, never the path itself
	Operation        string        `json:"operation,omitempty"`           // what an extractor read, where method and path do not tell
	Status           int           `json:"status,omitempty"`              // what the application got
	Verdict          string        `json:"verdict"`                       // allow, tunnel or deny
	Observed         bool          `json:"observed,omitempty"`            // mode: observe; verdict is what enforce would have given
	Layer            string        `json:"layer,omitempty"`               // of the refusal: whose turn it is
	Reason           string        `json:"reason,omitempty"`              // code without the layer
	Detail           string        `json:"detail,omitempty"`              // for the operator; never told to the application
	CallerCredential string        `json:"caller_credential,omitempty"`   // what the caller sent itself: none, placeholder, own, same_as_ours
	BytesIn          int64         `json:"bytes_in"`                      // from the application
	BytesOut         int64         `json:"bytes_out"`                     // to the application
	TIdentity        time.Duration `json:"t_identity"`                    // finding out who calls
	TPolicy          time.Duration `json:"t_policy"`                      // deciding
	TCredential      time.Duration `json:"t_credential"`                  // waiting for the credential
	TUpstream        time.Duration `json:"t_upstream"`                    // until the response header
	TTotal           time.Duration `json:"t_total"`                       // from the start to the end
	Proto            string        `json:"proto,omitempty"`               // h1, h2, tunnel
	UpstreamIP       string        `json:"upstream_ip,omitempty"`         // the address that was dialled
	UpstreamID       string        `json:"upstream_request_id,omitempty"` // the SaaS's own request id
	Original         string        `json:"original,omitempty"`            // where the client of a captured connection wanted to go: the address, with its port, that redirection replaced
	OriginalMismatch bool          `json:"original_mismatch,omitempty"`   // host does not resolve to that address here; egret dialled what it does resolve to
	ECH              bool          `json:"ech,omitempty"`                 // the ClientHello carried encrypted_client_hello, true or GREASE, which nobody but its addressee can tell apart: host is the outer name, and may not be all that the client meant
}
