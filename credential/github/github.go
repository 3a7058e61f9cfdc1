// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package github is the provider of GitHub App installation tokens: an hour long, good
// only for the repositories and permissions that a Credential names, and ended when they
// are given up. The App proves itself by a JWT that its private key signs; that key may
// live elsewhere (Signer). Git over HTTPS takes the same token as the password of
// x-access-token.
package github

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/internal/secret"
)

// API is that of github.com.
const API = "https://api.github.com"

// version is of the REST API; GitHub keeps each for two years at least.
const version = "2022-11-28"

// Config is fixed at load. Nothing of an application's request reaches it (MUST T10).
type Config struct {
	BaseURL        string // empty: API
	AppID          string // or client ID: the issuer of the App's JWT
	InstallationID int64

	// What tokens are narrowed to. No repository means all of the installation's.
	Repositories  []string // names without owner
	RepositoryIDs []int64
	Permissions   map[string]string // read, write or admin; required

	Signer Signer
	Issuer issuer.Options
}

// Provider implements credential.Provider. Safe for concurrent use. Close it.
type Provider struct {
	cfg    Config
	mint   string // URL
	revoke string // URL
	body   string
	client *issuer.Client
	log    *slog.Logger
	ahead  atomic.Int64 // of GitHub's clock, nanoseconds
}

// maxBody has room for 500 repositories, which GitHub describes in 5 to 6 KiB each.
const maxBody = 4 << 20

// New validates c. GitHub is not asked.
func New(c Config) (*Provider, error) {
	if c.BaseURL == "" {
		c.BaseURL = API
	}
	if c.Issuer.Logger == nil {
		c.Issuer.Logger = slog.New(slog.DiscardHandler)
	}
	c.Issuer.MaxBody = maxBody
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("github: %w", err)
	}
	c.Repositories, c.RepositoryIDs = slices.Clone(c.Repositories), slices.Clone(c.RepositoryIDs)
	c.Permissions = maps.Clone(c.Permissions)
	body, err := json.Marshal(struct {
		Repositories  []string          `json:"repositories,omitempty"`
		RepositoryIDs []int64           `json:"repository_ids,omitempty"`
		Permissions   map[string]string `json:"permissions"`
	}{c.Repositories, c.RepositoryIDs, c.Permissions})
	if err != nil {
		return nil, fmt.Errorf("github: %w", err)
	}
	base := strings.TrimSuffix(c.BaseURL, "/")
	return &Provider{
		cfg: c, body: string(body), client: issuer.New(c.Issuer), log: c.Issuer.Logger,
		mint:   base + "/app/installations/" + strconv.FormatInt(c.InstallationID, 10) + "/access_tokens",
		revoke: base + "/installation/token",
	}, nil
}

// Fetch implements credential.Provider. Refused: GitHub does not know the App or its key,
// or the installation has less than is asked. Unreachable: network, 5xx, rate limits,
// with the time that GitHub tells. NotMinted: no such installation, or a token that is
// good for more than was asked, which is ended at once.
func (p *Provider) Fetch(ctx context.Context, _ credential.Key, _ credential.Subject) (credential.Token, error) {
	a, err := p.ask(ctx)
	if err != nil {
		return credential.Token{}, issuer.Within("installation token", err)
	}
	if a.Status != http.StatusCreated {
		return credential.Token{}, issuer.Within("installation token", refusal(a))
	}
	tok, err := p.read(ctx, a)
	if err != nil {
		return credential.Token{}, issuer.Within("installation token", err)
	}
	return tok, nil
}

// ask posts with an assertion, and once more where GitHub's clock shows why it was refused.
func (p *Provider) ask(ctx context.Context) (*issuer.Answer, error) {
	for again := false; ; again = true {
		token, err := assertion(ctx, p.cfg.Signer, p.cfg.AppID, p.now())
		if err != nil {
			return nil, err
		}
		a, err := p.client.PostJSON(ctx, p.mint, p.body, header(token))
		if err != nil || a.Status != http.StatusUnauthorized || again || !p.learn(a) {
			return a, err
		}
	}
}

func header(token secret.Secret) http.Header {
	return http.Header{
		"Authorization":        {"Bearer " + token.Reveal()},
		"X-Github-Api-Version": {version},
	}
}

// now is the time by GitHub's clock, as far as that is known to differ.
func (p *Provider) now() time.Time { return time.Now().Add(time.Duration(p.ahead.Load())) }

// learn takes the time from a refusal, and reports whether it differs so much from the
// one that was used that this may be why.
func (p *Provider) learn(a *issuer.Answer) bool {
	t, err := http.ParseTime(a.Header.Get("Date"))
	if err != nil || t.Sub(p.now()).Abs() < 30*time.Second {
		return false
	}
	p.ahead.Store(int64(time.Until(t)))
	return true
}

// read makes the Token of an answer.
func (p *Provider) read(ctx context.Context, a *issuer.Answer) (credential.Token, error) {
	o, err := a.Object()
	if err != nil {
		return credential.Token{}, err
	}
	token := secret.New(o.Text("token"))
	switch {
	case token.IsZero():
		return credential.Token{}, issuer.NotMinted("answer has no token")
	case len(token.Reveal()) > maxToken:
		return credential.Token{}, issuer.NotMinted("token must not be larger than 4 KiB")
	}
	if err := p.cfg.narrow(o); err != nil {
		p.drop(ctx, token)
		return credential.Token{}, err
	}
	return credential.Token{
		Values: map[string]secret.Secret{"token": token}, Lifetime: a.Until(o, "expires_at"), Fingerprint: hashed(token),
		Revoke: func(ctx context.Context) error { return p.end(ctx, token) },
	}, nil
}

// maxToken is what is taken for a token, whose form GitHub may change (MUST C10).
const maxToken = 4 << 10

// hashed is GitHub's own name of a token, hashed_token in its audit log.
func hashed(token secret.Secret) string {
	sum := sha256.Sum256([]byte(token.Reveal()))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// end revokes a token. One that GitHub does not know any more has ended.
func (p *Provider) end(ctx context.Context, token secret.Secret) error {
	const what = "revoking an installation token"
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, p.revoke, nil)
	if err != nil {
		return fail(credential.Unconfigured, "%s: the base URL cannot be asked", what)
	}
	req.Header = header(token)
	req.Header.Set("Accept", "application/json")
	a, err := p.client.Ask(req, nil)
	switch {
	case err != nil:
		return issuer.Within(what, err)
	case a.Status == http.StatusNoContent, a.Status == http.StatusUnauthorized:
		return nil
	}
	return issuer.Within(what, refusal(a))
}

// dropTime is what the revocation of a token may take that nobody gets.
const dropTime = 2 * time.Second

func (p *Provider) drop(ctx context.Context, token secret.Secret) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTime)
	defer cancel()
	if err := p.end(ctx, token); err != nil {
		p.log.Warn("a token that is good for more than was asked is left to its own end", "error", err)
	}
}

// Close ends idle connections.
func (p *Provider) Close() error { return p.client.Close() }
