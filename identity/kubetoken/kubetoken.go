// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package kubetoken identifies callers by a Kubernetes projected service-account token
// in Proxy-Authorization, for clusters without SPIRE. The token is bearer evidence; what
// vouches for it is kube-apiserver, by a TokenReview, which unlike a signature also sees
// that the pod has been deleted. Nothing of the token itself is believed, and nothing in
// it chooses who is asked (MUST I11).
package kubetoken

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/internal/secret"
)

// MaxAge bounds how long a review is believed; a deleted pod is known for no longer, but
// for the 10 s in which kube-apiserver itself goes on to vouch for a token that it has
// just verified (its TokenSuccessCacheTTL, which has no setting).
const MaxAge = 60 * time.Second

// Defaults of Options.
const (
	DefaultAge   = 30 * time.Second
	DefaultCache = 10_000
)

// Options configure a Resolver. Client, Audience and ID are required.
type Options struct {
	Client   *Client
	Audience string // the one that tokens for this egret are projected with
	// ID is the SPIFFE ID that a service account has, with {namespace} and
	// {serviceAccount} as whole segments: spiffe://acme.example/ns/{namespace}/sa/{serviceAccount}.
	ID    string
	Node  string        // accept tokens of pods on this node only; empty: of any
	Age   time.Duration // how long a review is believed, at most MaxAge; default 30s
	Cache int           // tokens remembered; default 10000
}

// Resolver implements identity.Resolver. It is safe for concurrent use.
type Resolver struct {
	options Options
	id      template
	reviews *reviews
}

// New makes a resolver. It does no I/O.
func New(o Options) (*Resolver, error) {
	switch {
	case o.Client == nil:
		return nil, errors.New("kubernetes token: no client of the API server given")
	case o.Audience == "":
		return nil, errors.New("kubernetes token: no audience given; name the one that tokens for this egret are projected with")
	case o.Age < 0 || o.Age > MaxAge:
		return nil, fmt.Errorf("kubernetes token: a review is believed for %v, must be at most %v", o.Age, MaxAge)
	}
	id, err := parseTemplate(o.ID)
	if err != nil {
		return nil, err
	}
	if o.Age == 0 {
		o.Age = DefaultAge
	}
	if o.Cache <= 0 {
		o.Cache = DefaultCache
	}
	r := &Resolver{options: o, id: id}
	r.reviews = newReviews(o.Cache, o.Age, r.review)
	return r, nil
}

// Resolve implements identity.Resolver. Errors: ErrUnknown without a token, ErrInvalid
// when the API server does not vouch for it, ErrWrongAudience, ErrUnavailable when it
// cannot be asked.
func (r *Resolver) Resolve(ctx context.Context, p identity.Peer) (identity.Caller, error) {
	if p.JWT.IsZero() {
		return nil, fmt.Errorf("%w: no token", identity.ErrUnknown)
	}
	v, err := r.reviews.get(ctx, p.JWT)
	if err != nil {
		return nil, err
	}
	if v.err != nil {
		return nil, v.err
	}
	c := &caller{r: r, token: p.JWT, id: v.id, podUID: v.podUID, expires: v.expires}
	c.last.Store(v)
	return c, nil
}

// review asks about one token and maps the answer. The error is for what says nothing
// about the token; a token that is refused is a verdict.
func (r *Resolver) review(ctx context.Context, token secret.Secret) (*verdict, error) {
	asked := time.Now()
	s, err := r.options.Client.Review(ctx, token, r.options.Audience)
	if err != nil {
		return nil, err
	}
	v := &verdict{at: asked, podUID: s.PodUID}
	v.id, v.err = r.judge(s)
	if v.err == nil {
		v.expires, v.err = expiry(token)
	}
	return v, nil
}

// expiry reads exp of a token that the API server has vouched for, byte by byte; a
// TokenReview does not tell it.
func expiry(token secret.Secret) (time.Time, error) {
	var claims jwt.Claims
	parsed, err := jwt.ParseSigned(token.Reveal(), []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
	})
	if err != nil || parsed.UnsafeClaimsWithoutVerification(&claims) != nil || claims.Expiry == nil {
		// The parser's error may quote the token.
		return time.Time{}, fmt.Errorf("%w: the token is no JWT with an exp; only projected tokens are accepted", identity.ErrInvalid)
	}
	end := claims.Expiry.Time()
	if !time.Now().Before(end) {
		return time.Time{}, fmt.Errorf("%w: the token ended at %s", identity.ErrExpired, end.UTC().Format(time.RFC3339))
	}
	return end, nil
}

// judge holds a review to what egret requires.
func (r *Resolver) judge(s Status) (spiffeid.ID, error) {
	switch {
	case !s.Authenticated:
		return spiffeid.ID{}, fmt.Errorf("%w: the API server does not vouch for the token: %.200q", identity.ErrInvalid, s.Error)
	case !s.holds(r.options.Audience):
		// A server that knows no audiences leaves them out, and would take any token.
		return spiffeid.ID{}, fmt.Errorf("%w: the API server vouches for the token for %.200q, not for %q", identity.ErrWrongAudience, s.Audiences, r.options.Audience)
	case s.PodUID == "":
		return spiffeid.ID{}, fmt.Errorf("%w: the token is bound to no pod; project it into the pod (serviceAccountToken volume)", identity.ErrInvalid)
	case r.options.Node != "" && s.Node != r.options.Node:
		return spiffeid.ID{}, fmt.Errorf("%w: the token is of a pod on node %.200q, not %q", identity.ErrInvalid, s.Node, r.options.Node)
	}
	namespace, account, err := serviceAccount(s.Username)
	if err != nil {
		return spiffeid.ID{}, err
	}
	return r.id.apply(namespace, account)
}

// serviceAccount splits system:serviceaccount:NAMESPACE:NAME.
func serviceAccount(username string) (namespace, name string, err error) {
	parts := strings.Split(username, ":")
	if len(parts) != 4 || parts[0] != "system" || parts[1] != "serviceaccount" || !isName(parts[2]) || !isName(parts[3]) {
		return "", "", fmt.Errorf("%w: the token is of %.200q, not of a service account", identity.ErrInvalid, username)
	}
	return parts[2], parts[3], nil
}

// isName holds a name to what Kubernetes allows (a DNS subdomain), so that it cannot be
// more than one segment.
func isName(s string) bool {
	for n := range len(s) {
		c := s[n]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || n > 0 && (c == '-' || c == '.')) {
			return false
		}
	}
	return s != "" && len(s) <= 253
}

// template is a SPIFFE ID with names left out.
type template struct{ text string }

const (
	namespaceSlot = "{namespace}"
	accountSlot   = "{serviceAccount}"
)

// parseTemplate checks the template: both slots, each a whole segment once, since two
// service accounts must never get one ID.
func parseTemplate(s string) (template, error) {
	fault := func(rule string) error {
		return fmt.Errorf("kubernetes token: id %q %s, such as %q", s, rule, "spiffe://acme.example/ns/{namespace}/sa/{serviceAccount}")
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "spiffe" {
		return template{}, fault("must be a SPIFFE ID")
	}
	count := map[string]int{}
	for part := range strings.SplitSeq(strings.TrimPrefix(s, "spiffe://"), "/") {
		if strings.ContainsAny(part, "{}") && part != namespaceSlot && part != accountSlot {
			return template{}, fault("may have {namespace} and {serviceAccount} as whole segments only")
		}
		count[part]++
	}
	if count[namespaceSlot] != 1 || count[accountSlot] != 1 {
		return template{}, fault("must have {namespace} and {serviceAccount} once each")
	}
	t := template{s}
	if _, err := t.apply("a", "b"); err != nil {
		return template{}, fault("must be a SPIFFE ID")
	}
	return t, nil
}

func (t template) apply(namespace, account string) (spiffeid.ID, error) {
	id, err := spiffeid.FromString(strings.NewReplacer(namespaceSlot, namespace, accountSlot, account).Replace(t.text))
	if err != nil {
		return spiffeid.ID{}, fmt.Errorf("%w: service account %q of namespace %q makes no SPIFFE ID: %w", identity.ErrInvalid, account, namespace, err)
	}
	return id, nil
}
