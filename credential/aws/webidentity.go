// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/aws/sigv4"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/credential/svid"
	"github.com/egret-proxy/egret/internal/secret"
)

// DefaultAudience is that of the JWT-SVID, where configuration names none: the one that
// AWS' own guides register with the identity provider.
const DefaultAudience = "sts.amazonaws.com"

// WebIdentityConfig is fixed at load (MUST T10).
type WebIdentityConfig struct {
	RoleARN     string
	Region      string        // of STS; with URL neither is asked
	URL         string        // of STS, https; empty: that of Region
	SessionName string        // template; empty: {workload}
	Duration    time.Duration // zero: AWS' default, an hour
	Policy      string        // session policy, JSON: what the session may do is the role's and this
	PolicyARNs  []string      // managed session policies
	Audience    string        // of the JWT-SVID; empty: DefaultAudience

	Issuer issuer.Options
}

// WebIdentity implements credential.Provider by AssumeRoleWithWebIdentity, a call that is
// not signed. Safe for concurrent use. Close it.
type WebIdentity struct {
	cfg    WebIdentityConfig
	client *issuer.Client
}

// NewWebIdentity validates c. It asks nobody.
func NewWebIdentity(c WebIdentityConfig) (*WebIdentity, error) {
	if c.URL == "" {
		if err := CheckRegion(c.Region); err != nil {
			return nil, fmt.Errorf("aws: region %q %w", c.Region, err)
		}
		c.URL = "https://" + host("sts", c.Region) + "/"
	}
	if c.Audience == "" {
		c.Audience = DefaultAudience
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("aws: %w", err)
	}
	return &WebIdentity{cfg: c, client: issuer.New(c.Issuer)}, nil
}

func (c *WebIdentityConfig) check() error {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" {
		return errors.New("url of STS must be https with a host, and no user or query")
	}
	if err := CheckRole(c.RoleARN); err != nil {
		return fmt.Errorf("roleARN %q %w", c.RoleARN, err)
	}
	if c.Duration != 0 {
		if err := CheckDuration(c.Duration); err != nil {
			return fmt.Errorf("duration %s %w", c.Duration, err)
		}
	}
	if err := CheckSessionName(c.SessionName); c.SessionName != "" && err != nil {
		return fmt.Errorf("sessionName %q %w", c.SessionName, err)
	}
	for _, arn := range c.PolicyARNs {
		if err := CheckPolicy(arn); err != nil {
			return fmt.Errorf("policyARNs %q %w", arn, err)
		}
	}
	return CheckSessionPolicy(c.Policy)
}

// maxPolicy is AWS' bound on the text of a session policy, in characters.
const maxPolicy = 2048

// CheckSessionPolicy reports a session policy that AWS would refuse for its form. Empty
// is none.
func CheckSessionPolicy(text string) error {
	var doc struct {
		Statement json.RawMessage `json:"Statement"`
	}
	switch {
	case text == "":
	case len(text) > maxPolicy:
		return fmt.Errorf("policy must have at most %d characters: it has %d", maxPolicy, len(text))
	case json.Unmarshal([]byte(text), &doc) != nil || doc.Statement == nil:
		return errors.New("policy must be a JSON object with a Statement")
	}
	return nil
}

// Fetch implements credential.Provider. Refused: STS said no to the SVID or the role.
// Unreachable: network, throttling, 5xx, or STS cannot reach the SPIFFE issuer's keys.
func (p *WebIdentity) Fetch(ctx context.Context, k credential.Key, s credential.Subject) (credential.Token, error) {
	proof, err := svid.Fetch(ctx, s, p.cfg.Audience)
	if err != nil {
		return credential.Token{}, err
	}
	req, err := p.request(ctx, k, proof.Value)
	if err != nil {
		return credential.Token{}, err
	}
	answer, err := p.client.Ask(req, nil)
	if err != nil {
		return credential.Token{}, err
	}
	tok, err := p.read(answer)
	if err != nil {
		return credential.Token{}, issuer.Within("STS at "+req.URL.Host, err)
	}
	return tok, nil
}

func (p *WebIdentity) request(ctx context.Context, k credential.Key, proof secret.Secret) (*http.Request, error) {
	form := url.Values{
		"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"},
		"RoleArn": {p.cfg.RoleARN}, "RoleSessionName": {sessionName(p.cfg.SessionName, k.ID)},
		"WebIdentityToken": {proof.Reveal()},
	}
	if p.cfg.Duration > 0 {
		form.Set("DurationSeconds", strconv.Itoa(int(p.cfg.Duration/time.Second)))
	}
	if p.cfg.Policy != "" {
		form.Set("Policy", p.cfg.Policy)
	}
	for i, arn := range p.cfg.PolicyARNs {
		form.Set(fmt.Sprintf("PolicyArns.member.%d.arn", i+1), arn)
	}
	req, err := issuer.FormRequest(ctx, p.cfg.URL, form)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/xml") // what its reference documents
	return req, nil
}

// assumed is the part of the answer that is used.
type assumed struct {
	XMLName xml.Name `xml:"AssumeRoleWithWebIdentityResponse"`
	Keys    struct {
		AccessKeyID     string `xml:"AccessKeyId"`
		SecretAccessKey string `xml:"SecretAccessKey"`
		SessionToken    string `xml:"SessionToken"`
		Expiration      string `xml:"Expiration"`
	} `xml:"AssumeRoleWithWebIdentityResult>Credentials"`
}

func (p *WebIdentity) read(a *issuer.Answer) (credential.Token, error) {
	if a.Status != http.StatusOK {
		return credential.Token{}, refusal(a, xmlCode(a))
	}
	var got assumed
	if !isXML(a) || xml.Unmarshal(a.Body, &got) != nil {
		return credential.Token{}, issuer.NotMinted("answer is not that of AssumeRoleWithWebIdentity in XML")
	}
	if got.Keys.SessionToken == "" {
		return credential.Token{}, issuer.NotMinted("answer has no session token")
	}
	keys := sigv4.Keys{
		AccessKeyID:     got.Keys.AccessKeyID,
		SecretAccessKey: secret.New(got.Keys.SecretAccessKey),
		SessionToken:    secret.New(got.Keys.SessionToken),
	}
	return token(keys, until(a, got.Keys.Expiration), skew(a, time.Now()))
}

// Close ends idle connections.
func (p *WebIdentity) Close() error { return p.client.Close() }

func isXML(a *issuer.Answer) bool {
	mt, _, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	return err == nil && (mt == "text/xml" || mt == "application/xml")
}

func xmlCode(a *issuer.Answer) string {
	var e struct {
		XMLName xml.Name `xml:"ErrorResponse"`
		Code    string   `xml:"Error>Code"`
	}
	if !isXML(a) || xml.Unmarshal(a.Body, &e) != nil {
		return ""
	}
	return e.Code
}

// until is the life that AWS tells, by AWS' own clock.
func until(a *issuer.Answer, expiration string) time.Duration {
	text, err := json.Marshal(expiration)
	if err != nil {
		return 0
	}
	return a.Until(issuer.Object{"Expiration": text}, "Expiration")
}

func parseDate(s string) (time.Time, error) { return http.ParseTime(s) }

// refusal maps an error of AWS. Codes that are not listed are not told: AWS' texts name
// accounts and repeat what was sent.
func refusal(a *issuer.Answer, code string) error {
	switch code {
	case "IDPCommunicationError", "Throttling", "ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded",
		"ServiceUnavailable", "InternalFailure", "InternalError", "RequestTimeout", "SlowDown":
		return &credential.Error{Kind: credential.Unreachable, RetryAfter: a.RetryAfter(), Err: fmt.Errorf("status %d, %s", a.Status, code)}
	}
	return a.Refusal(strings.TrimSuffix(code, "Exception"), "AccessDenied", "InvalidIdentityToken", "ExpiredToken", "IDPRejectedClaim",
		"MalformedPolicyDocument", "PackedPolicyTooLarge", "RegionDisabled", "ValidationError", "Validation", "InvalidParameterValue",
		"ResourceNotFound", "MissingParameter", "SignatureDoesNotMatch", "InvalidClientTokenId", "UntrustedCertificate")
}
