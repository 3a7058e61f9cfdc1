// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/internal/secret"
)

// Lifetimes that may be asked for: kube-apiserver refuses less, and longer ones are no
// short-lived credentials.
const (
	MinExpiration     = 10 * time.Minute
	MaxExpiration     = 24 * time.Hour
	DefaultExpiration = time.Hour
)

// TokenConfig names a service account whose tokens are minted.
type TokenConfig struct {
	Cluster        Cluster
	Namespace      string
	ServiceAccount string
	Audiences      []string      // at least one: without, the token would open the API server itself
	Expiration     time.Duration // asked for; the server may give less. Zero: DefaultExpiration
	Bound          *Bound        // nil: to nothing but the service account
}

// Bound is an object of the same namespace with which the tokens end: Pod or Secret, or a Node.
type Bound struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	UID  string `json:"uid,omitempty"` // empty: of the object that has the name when a token is minted
}

// Token mints tokens of a service account (authentication.k8s.io/v1 TokenRequest). It
// implements credential.Provider, caches nothing and is safe for concurrent use. Close it.
type Token struct {
	client *client
	path   string
	body   []byte
	wants  []string
}

// NewToken validates c. It does no I/O.
func NewToken(c TokenConfig) (*Token, error) {
	if c.Expiration == 0 {
		c.Expiration = DefaultExpiration
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("kubernetes token: %w", err)
	}
	k, err := newClient(c.Cluster)
	if err != nil {
		return nil, fmt.Errorf("kubernetes token: %w", err)
	}
	body, err := json.Marshal(c.request())
	if err != nil {
		return nil, fmt.Errorf("kubernetes token: %w", err)
	}
	return &Token{
		client: k, body: body, wants: slices.Sorted(slices.Values(c.Audiences)),
		path: "/api/v1/namespaces/" + c.Namespace + "/serviceaccounts/" + c.ServiceAccount + "/token",
	}, nil
}

func (c *TokenConfig) check() error {
	if err := errors.Join(named("namespace", c.Namespace, CheckName(c.Namespace)), named("service account", c.ServiceAccount, CheckName(c.ServiceAccount))); err != nil {
		return err
	}
	if len(c.Audiences) == 0 || slices.Contains(c.Audiences, "") {
		return fmt.Errorf("audiences %q must name who the token is for: without, it would open the API server", c.Audiences)
	}
	if c.Expiration < MinExpiration || c.Expiration > MaxExpiration {
		return fmt.Errorf("expiration %s must be between %s and %s", c.Expiration, MinExpiration, MaxExpiration)
	}
	if c.Bound == nil {
		return nil
	}
	return c.Bound.check()
}

func (b *Bound) check() error {
	return errors.Join(
		named("boundObjectRef.kind", b.Kind, CheckBoundKind(b.Kind)),
		named("boundObjectRef.name", b.Name, CheckName(b.Name)),
	)
}

// CheckBoundKind holds a kind to those that kube-apiserver binds tokens to.
func CheckBoundKind(s string) error {
	if !slices.Contains([]string{"Pod", "Secret", "Node"}, s) {
		return errors.New("must be one of Pod, Secret, Node")
	}
	return nil
}

// tokenRequest is authentication.k8s.io/v1 TokenRequest, as far as it is sent.
type tokenRequest struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Spec       tokenSpec `json:"spec"`
}

type tokenSpec struct {
	Audiences         []string  `json:"audiences"`
	ExpirationSeconds int64     `json:"expirationSeconds"`
	Bound             *boundRef `json:"boundObjectRef,omitempty"`
}

type boundRef struct {
	APIVersion string `json:"apiVersion"`
	Bound
}

const tokenVersion = "authentication.k8s.io/v1"

func (c *TokenConfig) request() tokenRequest {
	r := tokenRequest{APIVersion: tokenVersion, Kind: "TokenRequest", Spec: tokenSpec{
		Audiences: c.Audiences, ExpirationSeconds: int64(c.Expiration / time.Second),
	}}
	if c.Bound != nil {
		r.Spec.Bound = &boundRef{APIVersion: "v1", Bound: *c.Bound}
	}
	return r
}

// Fetch implements credential.Provider: "token" is the service account's token. Refused:
// egret's own account may not mint it. NotMinted: there is no such service account or
// bound object, or the answer is not what was asked for. Unreachable: network, time-out,
// 429, 5xx.
func (t *Token) Fetch(ctx context.Context, _ credential.Key, _ credential.Subject) (credential.Token, error) {
	a, err := t.client.call(ctx, http.MethodPost, t.path, t.body)
	if err != nil {
		return credential.Token{}, issuer.Within("TokenRequest", err)
	}
	if a.Status != http.StatusCreated && a.Status != http.StatusOK {
		return credential.Token{}, issuer.Within("TokenRequest", refusal(a, "create serviceaccounts/token"))
	}
	tok, err := t.read(a)
	if err != nil {
		return credential.Token{}, issuer.Within("TokenRequest", err)
	}
	return tok, nil
}

// read holds the answer to what was asked for: a server that gives a token for others
// than we named must not have it sent to those we did.
func (t *Token) read(a *issuer.Answer) (credential.Token, error) {
	o, err := a.Object()
	if err != nil {
		return credential.Token{}, err
	}
	if o.Text("kind") != "TokenRequest" || o.Text("apiVersion") != tokenVersion {
		return credential.Token{}, issuer.NotMinted("the answer must be a TokenRequest of %s", tokenVersion)
	}
	var audiences []string
	if json.Unmarshal(o.Object("spec")["audiences"], &audiences) != nil || !slices.Equal(slices.Sorted(slices.Values(audiences)), t.wants) {
		return credential.Token{}, issuer.NotMinted("the token is not for the audiences %q alone", t.wants)
	}
	status := o.Object("status")
	token := status.Text("token")
	if token == "" {
		return credential.Token{}, issuer.NotMinted("the answer has no token")
	}
	return credential.Token{
		Values:   map[string]secret.Secret{"token": secret.New(token)},
		Lifetime: a.Until(status, "expirationTimestamp"),
	}, nil
}

// Close ends idle connections.
func (t *Token) Close() error {
	t.client.close()
	return nil
}
