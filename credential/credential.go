// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package credential gets short-lived credentials, keeps them fresh and puts them
// into requests. A provider (one folder each) knows how one kind of issuer is asked;
// the Cache around all of them knows when; an Injection knows where the value goes.
// What may use which credential is not decided here: package policy has decided
// before a Key exists.
package credential

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/internal/secret"
)

// Key names one cached credential: exactly the fields of MUST C2. It is comparable
// and used as a map key, never joined into a string with a separator.
type Key struct {
	ID         spiffeid.ID // the workload; the zero ID for a credential that is shared by declaration
	Provider   string      // name of the Credential object
	Generation string      // digest of its configuration
	Audience   string
	Scopes     string // sorted, space separated
	Resource   string
}

// Subject is the caller's own identity, for providers that log in as the workload.
// identity.Caller implements it.
type Subject interface {
	JWTSVID(ctx context.Context, audience string) (secret.Secret, time.Time, error)
	X509SVID(ctx context.Context) (tls.Certificate, error)
}

// Credential is one live credential. Immutable and safe for concurrent use.
type Credential interface {
	// Apply puts the credential into an outgoing request, whose URL already names the
	// destination. It must be the last header operation. It deletes every spelling of
	// the headers that it sets before it sets them (MUST H2). It may delete and replace fields,
	// but not change the values that it finds: others hold them, too.
	Apply(r *http.Request) error
	// Expires is the end of its life; zero only where the issuer does not tell one.
	Expires() time.Time
	// Fingerprint names the value in records without revealing it.
	Fingerprint() string
	// ClientCertificate is presented in the upstream handshake; nil for most.
	ClientCertificate() *tls.Certificate
}

// Source yields credentials. Safe for concurrent use. Errors are *Error.
type Source interface {
	// Held returns a value that is there and fresh, at once and without allocation. Nil:
	// Credential has to be asked, which may wait.
	Held(k Key, s Subject) Credential
	Credential(ctx context.Context, k Key, s Subject) (Credential, error)
	// Invalidate drops the value with this fingerprint, if it is still the current
	// one, after the SaaS has refused it (MUST C7).
	Invalidate(k Key, fingerprint string)
}

// Provider asks one issuer. Fetch is called by the Cache only: at most one call per
// Key at a time, with a deadline on ctx, never in the caller's context. A panic in it
// is recovered and becomes an error. Errors should be *Error; others count as
// Unreachable.
type Provider interface {
	Fetch(ctx context.Context, k Key, s Subject) (Token, error)
}

// Notifier is implemented by providers whose value can change under them (a file).
// After each receive the Cache drops their entries. The channel is closed by Close.
type Notifier interface {
	Changes() <-chan struct{}
}

// Resumer is implemented by Notifiers that can take over the values of the Provider that
// they replace. Resumes reports whether Fetch would have brought the value with this
// fingerprint when the Provider was made; of every change since then it tells. It must not
// block.
type Resumer interface {
	Notifier
	Resumes(fingerprint string) bool
}

// Refuser is implemented by providers that have another value to fall back to. Refused is
// called before the next Fetch when a SaaS has refused a value, and the Cache has believed
// it. It must neither block for long nor call the Cache.
type Refuser interface {
	Refused(k Key, fingerprint string)
}

// Token is what a provider returns.
type Token struct {
	// Values are what injection templates and signers can name; "token" is the usual one,
	// and must not be empty where it is there.
	Values map[string]secret.Secret
	// Lifetime is how long the issuer says it lives, counted from the moment the
	// request was sent. Zero or negative means that it was not told or is absurd:
	// the Cache then uses the configured TTL (MUST C5).
	Lifetime time.Duration
	// Fingerprint is the SaaS's own identifier of the value, where it has one. Empty:
	// the Cache uses secret.Fingerprint of Values["token"].
	Fingerprint string
	// Certificate is presented to the upstream, for certificate-bound tokens.
	Certificate *tls.Certificate `json:"-"` // holds a private key
	// Revoke ends the value at its issuer, which is more than to forget it (RFC 7009,
	// Vault leases). Nil: the issuer has no such call, or the value is not egret's to end.
	// The Cache calls it at most once, with a deadline on ctx, when the value is given up
	// before its end: at Cache.Revoke, at a shutdown, when its Spec is replaced or its entry
	// makes room. Not when a refresh has brought a newer value, which may share the lease,
	// and not when the SaaS has refused it. Its errors are those of Fetch.
	Revoke func(ctx context.Context) error `json:"-"`
}

// Kind of an Error: whose fault, and whether asking again helps.
type Kind int

// Kinds of error.
const (
	Unreachable  Kind = iota // network, time-out, 5xx, 429: may pass by itself
	Refused                  // the issuer said no (invalid_client, access_denied): needs a person
	Expired                  // only an expired value is at hand
	NotMinted                // the answer held nothing usable
	Unconfigured             // no such provider or generation
	Backoff                  // not asked: a recent failure is still being backed off
)

// NotHeld reports that a Subject cannot be acted for at all, now and later, because egret
// has no key of it: its errors then have a method NotHeld. Providers answer Unconfigured,
// which is not held against other callers of the same identity.
func NotHeld(err error) bool {
	var e interface{ NotHeld() bool }
	return errors.As(err, &e) && e.NotHeld()
}

// OfSubject is the *Error of a provider whose Subject gave no SVID: what says what was
// asked for.
func OfSubject(what string, err error) *Error {
	kind := Unreachable
	if NotHeld(err) {
		kind = Unconfigured
	}
	return &Error{Kind: kind, Err: fmt.Errorf("%s: %w", what, err)}
}

// Error is why there is no credential. Err is for logs; the application is told only
// the Kind. It never holds a secret or an issuer's response body.
type Error struct {
	Kind       Kind
	RetryAfter time.Duration // what the issuer asked for; zero if nothing
	Err        error
}

func (e *Error) Error() string {
	return fmt.Sprintf("credential %s: %v", e.Kind, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// String returns the code used in reasons, metrics and logs.
func (k Kind) String() string {
	switch k {
	case Unreachable:
		return "provider_unreachable"
	case Refused:
		return "provider_refused"
	case Expired:
		return "expired"
	case NotMinted:
		return "not_minted"
	case Unconfigured:
		return "unconfigured"
	case Backoff:
		return "provider_backoff"
	}
	return "unknown"
}
