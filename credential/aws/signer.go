// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/aws/sigv4"
	"github.com/egret-proxy/egret/internal/secret"
)

// HostScope says what requests to a host are signed for.
type HostScope struct {
	Host            string // canonical, or "*.example.com" for exactly one label
	Service, Region string
}

// SignerConfig is fixed at load.
type SignerConfig struct {
	Service, Region string      // of hosts that the table does not have; both or neither
	Hosts           []HostScope // an exact name is preferred to a wildcard
	MaxBody         int64       // bytes of a body that is held to be hashed; zero: sigv4.DefaultMaxBody
	Now             func() time.Time
}

// Signer implements credential.Signer by AWS Signature Version 4. It has no state that
// changes: every call has its own options (MUST T8).
type Signer struct {
	exact    map[string]sigv4.Scope
	wild     map[string]sigv4.Scope // by what follows the first label
	fallback sigv4.Scope
	maxBody  int64
	now      func() time.Time
}

// NewSigner validates c.
func NewSigner(c SignerConfig) (*Signer, error) {
	s := &Signer{
		exact: map[string]sigv4.Scope{}, wild: map[string]sigv4.Scope{},
		fallback: sigv4.Scope{Service: c.Service, Region: c.Region}, maxBody: c.MaxBody, now: c.Now,
	}
	if s.now == nil {
		s.now = time.Now
	}
	if c.MaxBody < 0 {
		return nil, fmt.Errorf("sigv4: maxBody %d must not be negative", c.MaxBody)
	}
	if len(c.Hosts) == 0 || c.Service != "" || c.Region != "" {
		if err := CheckScope(c.Service, c.Region); err != nil {
			return nil, fmt.Errorf("sigv4: %w", err)
		}
	}
	for _, h := range c.Hosts {
		if err := s.add(h); err != nil {
			return nil, fmt.Errorf("sigv4: host %q: %w", h.Host, err)
		}
	}
	return s, nil
}

func (s *Signer) add(h HostScope) error {
	if err := CheckScope(h.Service, h.Region); err != nil {
		return err
	}
	name, table := h.Host, s.exact
	if suffix, ok := strings.CutPrefix(h.Host, "*."); ok {
		name, table = suffix, s.wild
	}
	if name == "" || strings.ContainsAny(name, "*/@:") || name != strings.ToLower(name) {
		return errors.New("must be a canonical name, or *.name for one label")
	}
	if _, taken := table[name]; taken {
		return errors.New("must stand only once in the list")
	}
	table[name] = sigv4.Scope{Service: h.Service, Region: h.Region}
	return nil
}

// CheckScope reports what cannot be a service and region of a signature, and services
// whose requests are signed in another way.
func CheckScope(service, region string) error {
	switch {
	case service == "" || region == "":
		return errors.New("service and region must be set")
	case !scopeWord(service) || !scopeWord(region):
		return fmt.Errorf("service %q and region %q must be lower-case letters, digits and dashes", service, region)
	case service == "s3express":
		return errors.New("s3express is signed with keys of a session of its own, which egret does not ask for")
	}
	return nil
}

func scopeWord(s string) bool {
	return len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// Headers implements credential.Signer.
func (*Signer) Headers() []string { return sigv4.Headers() }

// Scope returns what requests to a canonical host are signed for. ok is false where
// nothing says it: they are not signed, and so not sent.
func (s *Signer) Scope(host string) (scope sigv4.Scope, ok bool) {
	if scope, ok = s.exact[host]; ok {
		return scope, true
	}
	_, suffix, _ := strings.Cut(host, ".")
	if scope, ok = s.wild[suffix]; ok {
		return scope, true
	}
	return s.fallback, s.fallback.Service != ""
}

// Check implements credential.Checker: the caller's own signature, which is replaced,
// must be for what the host is configured for. Errors wrap ErrCallerSignature.
func (s *Signer) Check(r *http.Request, host string) error {
	scope, ok := s.Scope(host)
	if !ok {
		return fmt.Errorf("sigv4: no service and region for host %q", host)
	}
	return callerFault(sigv4.Check(r, scope))
}

// Sign implements credential.Signer.
func (s *Signer) Sign(r *http.Request, values map[string]secret.Secret) error {
	scope, ok := s.Scope(r.URL.Hostname())
	if !ok {
		return fmt.Errorf("sigv4: no service and region for host %q", r.URL.Hostname())
	}
	before := r.Body
	err := sigv4.Sign(r, sigv4.Options{
		Scope: scope,
		Keys: sigv4.Keys{
			AccessKeyID:     values[accessKeyID].Reveal(),
			SecretAccessKey: values[secretAccessKey],
			SessionToken:    values[sessionToken],
		},
		Time:    s.now().Add(ahead(values)),
		MaxBody: s.maxBody,
	})
	if err == nil && r.Body != nil && r.Body != before && r.Body != http.NoBody {
		r.Body = faultyBody{r.Body}
	}
	return callerFault(err)
}

func ahead(values map[string]secret.Secret) time.Duration {
	n, err := strconv.ParseInt(values[clockAhead].Reveal(), 10, 32)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

// faultyBody tells whose fault a body is that cannot be signed while it is sent.
type faultyBody struct{ io.ReadCloser }

func (b faultyBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // readers return it bare
		err = callerFault(err)
	}
	return n, err
}

func callerFault(err error) error {
	if _, ok := errors.AsType[*sigv4.Refusal](err); ok {
		return fmt.Errorf("%w: %w", credential.ErrCallerSignature, err)
	}
	return err
}
