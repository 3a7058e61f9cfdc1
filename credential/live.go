// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Live is a Token with its injections rendered: the Credential that this package
// makes. Immutable and safe for concurrent use.
type Live struct {
	inject      []rendered
	expires     time.Time
	fingerprint string
	cert        *tls.Certificate
	bare        bool    // the certificate is the credential
	ending      *ending // nil: its issuer has no call that ends it
	life        life
}

// New renders a token into all its injections. It fails where a template names a value
// that the token does not have, or the result could not be a header (MUST C10), so that
// a bad value is found before it is cached. expires may be zero: not told.
func New(t Token, inject []Injection, expires time.Time) (*Live, error) {
	l := &Live{expires: expires, fingerprint: t.Fingerprint, cert: t.Certificate}
	if t.Revoke != nil {
		l.ending = &ending{call: t.Revoke}
	}
	if !t.holdsValue() && t.Certificate == nil {
		return nil, errors.New("the provider returned an empty token")
	}
	if l.fingerprint == "" {
		l.fingerprint = t.Values["token"].Fingerprint()
	}
	for _, in := range inject {
		r, err := in.render(t.Values)
		if err != nil {
			return nil, err
		}
		l.inject = append(l.inject, r)
	}
	return l, nil
}

// holdsValue reports whether a token has anything to put in.
func (t Token) holdsValue() bool {
	if v, ok := t.Values["token"]; ok {
		return !v.IsZero()
	}
	for _, v := range t.Values {
		if !v.IsZero() {
			return true
		}
	}
	return false
}

// Apply implements Credential. A request that is not https, or whose host no injection
// matches, is an error and stays as it was: without its credential it must not be sent.
// ErrAmbiguousQuery is the caller's fault.
func (l *Live) Apply(r *http.Request) error {
	if r.URL == nil || r.URL.Scheme != "https" {
		return errors.New("credential goes only into https requests")
	}
	host := r.URL.Hostname()
	query, set := r.URL.RawQuery, false
	for i := range l.inject {
		in := &l.inject[i]
		if !in.matches(host) {
			continue
		}
		set = set || in.sets()
		if in.query == "" {
			continue
		}
		var err error
		if query, err = replaceParam(query, in.query, in.wire.Reveal()); err != nil {
			return err
		}
	}
	if !set && !l.bare {
		return fmt.Errorf("credential has no injection for host %q", host)
	}
	r.URL.RawQuery = query
	l.setHeaders(r, host)
	return l.sign(r, host)
}

// sign comes after everything that a signature covers.
func (l *Live) sign(r *http.Request, host string) error {
	for i := range l.inject {
		if in := &l.inject[i]; in.signer != nil && in.matches(host) {
			return in.signer.Sign(r, in.values)
		}
	}
	return nil
}

// setHeaders deletes first and sets last, so that no entry undoes another's work.
func (l *Live) setHeaders(r *http.Request, host string) {
	if r.Header == nil {
		r.Header = http.Header{}
	}
	for i := range l.inject {
		if in := &l.inject[i]; in.matches(host) {
			for _, name := range in.remove {
				deleteHeader(r.Header, name)
			}
			if in.header != "" {
				deleteHeader(r.Header, in.header)
			}
		}
	}
	for i := range l.inject {
		if in := &l.inject[i]; in.header != "" && in.matches(host) {
			r.Header[in.header] = []string{in.wire.Reveal()}
		}
	}
}

// Expires implements Credential.
func (l *Live) Expires() time.Time { return l.expires }

// Fingerprint implements Credential.
func (l *Live) Fingerprint() string { return l.fingerprint }

// ClientCertificate implements Credential.
func (l *Live) ClientCertificate() *tls.Certificate { return l.cert }

// String names the credential by its fingerprint; Live holds nothing else to print.
func (l *Live) String() string { return "credential " + l.fingerprint }
