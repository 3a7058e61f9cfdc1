// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package kubetoken

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/internal/secret"
)

// ClientOptions configure a Client. All are required.
type ClientOptions struct {
	Server string // https://host:port of kube-apiserver
	// HTTP verifies the server by the cluster's CA. It must not follow redirects: the
	// token of the caller and ours are in the request.
	HTTP *http.Client
	// Token is egret's own service-account token, read anew for each review since the
	// kubelet replaces it. Its account needs to create tokenreviews.authentication.k8s.io.
	Token func() (secret.Secret, error)
}

// Client asks kube-apiserver for TokenReviews (authentication.k8s.io/v1).
type Client struct {
	url  string
	http *http.Client
	own  func() (secret.Secret, error)
}

// NewClient makes a client. It does no I/O.
func NewClient(o ClientOptions) (*Client, error) {
	u, err := url.Parse(o.Server)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("kubernetes token: server %q, must be https://host:port", o.Server)
	}
	if o.HTTP == nil || o.Token == nil {
		return nil, errors.New("kubernetes token: it needs an HTTP client that trusts the cluster's CA, and egret's own token")
	}
	h := *o.HTTP
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{url: "https://" + u.Host + "/apis/authentication.k8s.io/v1/tokenreviews", http: &h, own: o.Token}, nil
}

// Status is what the server says about a token.
type Status struct {
	Authenticated bool
	Username      string // system:serviceaccount:NAMESPACE:NAME
	Audiences     []string
	PodUID, Node  string // empty where the token is bound to no pod, or the server older than 1.31
	Error         string // why it is not authenticated
}

func (s Status) holds(audience string) bool { return slices.Contains(s.Audiences, audience) }

// review is authentication.k8s.io/v1 TokenReview, as far as it is of use.
type review struct {
	APIVersion string       `json:"apiVersion"`
	Kind       string       `json:"kind"`
	Spec       reviewSpec   `json:"spec"`
	Status     reviewStatus `json:"status,omitzero"`
}

type reviewSpec struct {
	Token     string   `json:"token"`
	Audiences []string `json:"audiences"`
}

type reviewStatus struct {
	Authenticated bool     `json:"authenticated"`
	Audiences     []string `json:"audiences"`
	Error         string   `json:"error"`
	User          struct {
		Username string              `json:"username"`
		Extra    map[string][]string `json:"extra"`
	} `json:"user"`
}

// Keys of user.extra that kube-apiserver sets for bound tokens.
const (
	extraPodUID = "authentication.kubernetes.io/pod-uid"
	extraNode   = "authentication.kubernetes.io/node-name"
)

const (
	maxAnswer = 256 << 10
	maxToken  = 16 << 10
)

// Review asks about one token for one audience. ErrUnavailable when there is no usable
// answer; what is in it never quotes the token.
func (c *Client) Review(ctx context.Context, token secret.Secret, audience string) (Status, error) {
	if n := len(token.Reveal()); n > maxToken {
		return Status{}, fmt.Errorf("%w: the token has %d bytes, at most %d are sent", identity.ErrInvalid, n, maxToken)
	}
	req, err := c.request(ctx, token, audience)
	if err != nil {
		return Status{}, unavailable(err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return Status{}, unavailable(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusOK {
		return Status{}, unavailable(refusal(resp.StatusCode))
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil || len(b) > maxAnswer {
		return Status{}, unavailable(fmt.Errorf("its answer cannot be read, or has more than %d bytes", maxAnswer))
	}
	return parseReview(b)
}

func (c *Client) request(ctx context.Context, token secret.Secret, audience string) (*http.Request, error) {
	own, err := c.own()
	if err != nil {
		return nil, fmt.Errorf("egret's own token: %w", err)
	}
	body, err := json.Marshal(review{
		APIVersion: "authentication.k8s.io/v1", Kind: "TokenReview",
		Spec: reviewSpec{Token: token.Reveal(), Audiences: []string{audience}},
	})
	if err != nil {
		return nil, errors.New("the token cannot be sent")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+own.Reveal())
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	return req, nil
}

func refusal(status int) error {
	switch status {
	case http.StatusUnauthorized:
		return errors.New("it refuses egret's own token (401)")
	case http.StatusForbidden:
		return errors.New("egret may not create tokenreviews (403); bind its service account to system:auth-delegator")
	}
	return fmt.Errorf("it answers %d", status)
}

func unavailable(err error) error {
	return fmt.Errorf("%w: TokenReview: %w", identity.ErrUnavailable, err)
}

func parseReview(b []byte) (Status, error) {
	var r review
	if err := json.Unmarshal(b, &r); err != nil {
		return Status{}, unavailable(errors.New("its answer is no JSON of that kind"))
	}
	if r.Kind != "TokenReview" || r.APIVersion != "authentication.k8s.io/v1" {
		return Status{}, unavailable(fmt.Errorf("its answer is a %.50q of %.50q", r.Kind, r.APIVersion))
	}
	s := r.Status
	return Status{
		Authenticated: s.Authenticated, Username: s.User.Username, Audiences: s.Audiences, Error: s.Error,
		PodUID: single(s.User.Extra[extraPodUID]), Node: single(s.User.Extra[extraNode]),
	}, nil
}

// single returns the one value; several are none.
func single(values []string) string {
	if len(values) != 1 {
		return ""
	}
	return values[0]
}
