// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package identity answers one question: which workload is calling? It turns the
// evidence that a connection carries (a verified client certificate, a JWT-SVID,
// facts from the kernel) into a SPIFFE identity, and keeps that answer honest for
// as long as the connection lives. It does not decide what the workload may do;
// that is package policy. It knows no other package of egret but internal/secret.
package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/internal/secret"
)

// Kinds of evidence. A Workload lists those it accepts (MUST I12); the record
// names the one that was used.
const (
	EvidenceX509SVID = "x509-svid" // client certificate in mTLS to the listener
	EvidenceJWTSVID  = "jwt-svid"  // bearer token in Proxy-Authorization
	EvidenceSidecar  = "sidecar"   // egret's own SVID, in the pod's own network namespace
	EvidenceProcess  = "process"   // kernel facts about the socket's owner
	EvidencePod      = "pod"       // the network namespace the connection came from
	EvidenceToken    = "token"     // Kubernetes projected token (bearer)
)

// Peer is what a connection carries: facts only, no conclusions. Nothing in it can
// be chosen by a header of the application (MUST I1).
type Peer struct {
	Addr  netip.AddrPort
	Chain []*x509.Certificate // client chain as presented in a completed TLS handshake (possession proved), leaf first; the resolver verifies it
	JWT   secret.Secret       // JWT-SVID from Proxy-Authorization
	Proc  *Process            // kernel facts, where the listener collects them
}

// Process holds what the kernel says about the process that owns the peer's socket.
type Process struct {
	PID    int    // 0 where unknown
	UID    uint32 // effective uid that created the socket
	Cgroup uint64 // cgroup v2 id at socket creation, 0 where unknown
	NetNS  uint64 // inode of the network namespace, 0 where unknown
	PodUID string // of the Kubernetes pod whose network namespace the connection came from, where known for certain: the cgroup must be of the same
	PIDFD  int    // of the process that connected, over unix sockets; -1 where not held. Borrowed: whoever made the Peer closes it after Resolve
}

// Workload is a resolved identity. Evidence is one of the Evidence constants;
// Expires is the end of the evidence, never zero for a live workload.
type Workload struct {
	ID       spiffeid.ID
	Evidence string
	Expires  time.Time
}

// Caller is the identity of one connection. It lives as long as the connection and
// is asked again for every request (MUST I4). All methods are safe for concurrent
// use; Workload takes no lock.
//
// JWTSVID and X509SVID make a Caller a credential.Subject without either package
// importing the other: they yield the caller's own SVIDs, never the proxy's.
type Caller interface {
	// Workload returns the identity as it stands now. Errors: ErrExpired when the
	// evidence has ended, ErrRevoked when its trust bundle no longer vouches for it,
	// ErrGone when the process or pod has ended, ErrUnavailable when the source of
	// identities has not answered yet.
	Workload() (Workload, error)
	// JWTSVID fetches the caller's own JWT-SVID for one audience, with its expiry.
	// ErrNotHeld where egret cannot act for this caller.
	JWTSVID(ctx context.Context, audience string) (secret.Secret, time.Time, error)
	// X509SVID returns the caller's own X.509-SVID and key. ErrNotHeld where egret
	// does not hold the key.
	X509SVID(ctx context.Context) (tls.Certificate, error)
}

// Resolver turns evidence into a Caller. It must be safe for concurrent use and
// must never fall back to a default identity (MUST I8): ErrUnknown means that
// nothing usable was presented; the other errors mean that something was presented
// and is not good.
type Resolver interface {
	Resolve(ctx context.Context, p Peer) (Caller, error)
}

// notHeld tells package credential, which does not know this one, what it means.
type notHeld struct{}

func (notHeld) Error() string { return "egret does not hold this caller's key" }

// NotHeld reports that asking again is of no use: egret cannot act for this caller.
func (notHeld) NotHeld() bool { return true }

// Errors of resolving and re-checking. They are compared with errors.Is; what wraps
// them is for logs only and may quote facts about the evidence, never the evidence.
var (
	ErrUnknown             = errors.New("no usable evidence of identity")
	ErrInvalid             = errors.New("evidence is not valid")
	ErrExpired             = errors.New("evidence has expired")
	ErrRevoked             = errors.New("trust bundle no longer vouches for the evidence")
	ErrGone                = errors.New("the calling process or pod has ended")
	ErrWrongAudience       = errors.New("token is not for this proxy alone")
	ErrTrustDomain         = errors.New("trust domain is not allowed here")
	ErrUnavailable         = errors.New("source of identities is not available")
	ErrNotHeld       error = notHeld{} // see credential.NotHeld
)
