// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/aws/sigv4"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/internal/secret"
)

// RolesAnywhereConfig is fixed at load (MUST T10).
type RolesAnywhereConfig struct {
	TrustAnchorARN string
	ProfileARN     string
	RoleARN        string
	Region         string        // empty: that of the trust anchor
	URL            string        // https; empty: that of Region
	Duration       time.Duration // zero: that of the profile
	SessionName    string        // template; empty: the certificate's serial number, since a profile must allow names

	Issuer issuer.Options
}

// RolesAnywhere implements credential.Provider by CreateSession, signed with the key of
// the workload's X.509-SVID. Safe for concurrent use. Close it.
type RolesAnywhere struct {
	cfg    RolesAnywhereConfig
	client *issuer.Client
	ahead  atomic.Int64 // AWS' clock before ours, as it told last (time.Duration)
}

// NewRolesAnywhere validates c. It asks nobody.
func NewRolesAnywhere(c RolesAnywhereConfig) (*RolesAnywhere, error) {
	if c.Region == "" {
		c.Region = regionOf(c.TrustAnchorARN)
	}
	if c.URL == "" {
		c.URL = "https://" + host("rolesanywhere", c.Region)
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("aws: %w", err)
	}
	return &RolesAnywhere{cfg: c, client: issuer.New(c.Issuer)}, nil
}

func (c *RolesAnywhereConfig) check() error {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Path != "" && u.Path != "/" {
		return errors.New("url of Roles Anywhere must be https with a host, and nothing else")
	}
	for _, x := range []struct {
		name, value string
		check       func(string) error
	}{
		{"trustAnchorARN", c.TrustAnchorARN, CheckTrustAnchor},
		{"profileARN", c.ProfileARN, CheckProfile},
		{"roleARN", c.RoleARN, CheckRole},
		{"region", c.Region, CheckRegion},
	} {
		if err := x.check(x.value); err != nil {
			return fmt.Errorf("%s %q %w", x.name, x.value, err)
		}
	}
	if c.Duration != 0 {
		if err := CheckDuration(c.Duration); err != nil {
			return fmt.Errorf("duration %s %w", c.Duration, err)
		}
	}
	if c.SessionName == "" {
		return nil
	}
	if err := CheckSessionName(c.SessionName); err != nil {
		return fmt.Errorf("sessionName %q %w", c.SessionName, err)
	}
	return nil
}

// Fetch implements credential.Provider. Refused: Roles Anywhere said no to the SVID, the
// profile or the role. Unreachable: network, throttling, 5xx. Where it refuses and its
// clock is not ours, it is asked once more by its clock.
func (p *RolesAnywhere) Fetch(ctx context.Context, k credential.Key, s credential.Subject) (credential.Token, error) {
	if s == nil {
		return credential.Token{}, &credential.Error{Kind: credential.Unconfigured, Err: errors.New("needs the caller's X.509-SVID, and egret does not hold one")}
	}
	cert, err := s.X509SVID(ctx)
	if err != nil {
		return credential.Token{}, credential.OfSubject("X.509-SVID", err)
	}
	used := time.Duration(p.ahead.Load())
	answer, err := p.ask(ctx, call{k, cert, used})
	if err != nil {
		return credential.Token{}, err
	}
	told := skew(answer, time.Now())
	if answer.Status == http.StatusForbidden && (told-used).Abs() >= minSkew {
		if answer, err = p.ask(ctx, call{k, cert, told}); err != nil {
			return credential.Token{}, err
		}
	}
	p.ahead.Store(int64(told))
	tok, err := readSession(answer, told)
	if err != nil {
		return credential.Token{}, issuer.Within("Roles Anywhere in "+p.cfg.Region, err)
	}
	return tok, nil
}

type call struct {
	key   credential.Key
	cert  tls.Certificate
	ahead time.Duration
}

func (p *RolesAnywhere) ask(ctx context.Context, c call) (*issuer.Answer, error) {
	req, err := p.request(ctx, c)
	if err != nil {
		return nil, &credential.Error{Kind: credential.Unconfigured, Err: err}
	}
	return p.client.Ask(req, nil)
}

func (p *RolesAnywhere) request(ctx context.Context, c call) (*http.Request, error) {
	in := map[string]any{}
	if p.cfg.Duration > 0 {
		in["durationSeconds"] = int(p.cfg.Duration / time.Second)
	}
	if p.cfg.SessionName != "" {
		in["roleSessionName"] = sessionName(p.cfg.SessionName, c.key.ID)
	}
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the URL of Roles Anywhere cannot be asked")
	}
	req.URL.Path = "/sessions"
	req.URL.RawQuery = url.Values{"trustAnchorArn": {p.cfg.TrustAnchorARN}, "profileArn": {p.cfg.ProfileARN}, "roleArn": {p.cfg.RoleARN}}.Encode()
	req.Header.Set("Content-Type", "application/json")
	return req, sigv4.SignX509(req, body, c.cert, sigv4.X509Options{
		Scope: sigv4.Scope{Service: "rolesanywhere", Region: p.cfg.Region}, Time: time.Now().Add(c.ahead),
	})
}

// readSession reads the answer of CreateSession, 201 with a list of one.
func readSession(a *issuer.Answer, ahead time.Duration) (credential.Token, error) {
	o, err := a.Object()
	if a.Status != http.StatusCreated && a.Status != http.StatusOK {
		code := a.Header.Get("X-Amzn-Errortype")
		if i := bytes.IndexByte([]byte(code), ':'); i >= 0 {
			code = code[:i]
		}
		return credential.Token{}, refusal(a, code)
	}
	if err != nil {
		return credential.Token{}, err
	}
	var set []issuer.Object
	if json.Unmarshal(o["credentialSet"], &set) != nil || len(set) != 1 {
		return credential.Token{}, issuer.NotMinted("answer must hold one set of credentials")
	}
	c := set[0].Object("credentials")
	if c.Text(anywhereToken) == "" {
		return credential.Token{}, issuer.NotMinted("answer has no session token")
	}
	keys := sigv4.Keys{
		AccessKeyID:     c.Text("accessKeyId"),
		SecretAccessKey: secret.New(c.Text("secretAccessKey")),
		SessionToken:    secret.New(c.Text(anywhereToken)),
	}
	return token(keys, a.Until(c, "expiration"), ahead)
}

const anywhereToken = "sessionToken"

// Close ends idle connections.
func (p *RolesAnywhere) Close() error { return p.client.Close() }
