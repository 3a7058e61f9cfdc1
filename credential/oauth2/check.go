// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package oauth2

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/egret-proxy/egret/credential/issuer/keyjwt"
)

func (c *Config) setDefaults() {
	c.Grant = cmp.Or(c.Grant, ClientCredentials)
	c.ClientAuth = cmp.Or(c.ClientAuth, ClientSecretBasic)
	if c.ClientAuth == JWTSPIFFE || c.ClientAuth == PrivateKeyJWT {
		c.AssertionAudience = cmp.Or(c.AssertionAudience, c.TokenURL)
	}
	if c.presentsSubject() {
		c.SubjectAudience = cmp.Or(c.SubjectAudience, c.TokenURL)
	}
}

func (c *Config) presentsSubject() bool { return c.Grant == TokenExchange || c.Grant == JWTBearer }

func (c *Config) checkURLs() error {
	if c.RevocationURL != "" {
		if err := checkURL("revocationURL", c.RevocationURL); err != nil {
			return err
		}
	}
	return checkURL("tokenURL", c.TokenURL)
}

func checkURL(what, raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return fmt.Errorf("%s is not a URL", what) // the parser's error quotes it, with a password
	case u.User != nil:
		return fmt.Errorf("%s must hold no user or password: use clientID and clientSecret", what)
	case u.Scheme != "https" || u.Hostname() == "":
		return fmt.Errorf("%s %q must be https with a host", what, raw)
	case u.Fragment != "" || strings.HasSuffix(raw, "#"):
		return fmt.Errorf("%s %q must have no fragment (RFC 6749, 3.2)", what, raw)
	}
	return nil
}

// auths are all ways of authentication.
func auths() []string {
	return []string{ClientSecretBasic, ClientSecretPost, PrivateKeyJWT, JWTSPIFFE, TLSClientAuth, SelfSignedTLS, None}
}

func (c *Config) checkAuth() error {
	if !slices.Contains(auths(), c.ClientAuth) {
		return fmt.Errorf("clientAuth %q must be one of %s", c.ClientAuth, strings.Join(auths(), ", "))
	}
	signs := c.ClientAuth == PrivateKeyJWT
	switch {
	case c.ClientAuth == None && c.Grant == ClientCredentials:
		return errors.New("clientAuth \"none\" leaves the client credentials grant without a proof (RFC 6749, 4.4)")
	case !signs && c.ClientAuth != JWTSPIFFE && c.AssertionAudience != "":
		return fmt.Errorf("assertionAudience would be ignored with clientAuth %q: remove it", c.ClientAuth)
	}
	for _, err := range []error{c.checkSecret(), c.checkKey(signs)} {
		if err != nil {
			return err
		}
	}
	return oneAudience("assertionAudience", c.AssertionAudience)
}

func (c *Config) checkSecret() error {
	needed := c.ClientAuth == ClientSecretBasic || c.ClientAuth == ClientSecretPost
	switch {
	case needed && (c.ClientID == "" || c.ClientSecret == nil):
		return fmt.Errorf("clientAuth %q needs clientID and clientSecret", c.ClientAuth)
	case !needed && c.ClientSecret != nil:
		return fmt.Errorf("clientSecret would be ignored with clientAuth %q: remove it", c.ClientAuth)
	}
	return nil
}

func (c *Config) checkKey(needed bool) error {
	k := &c.ClientKey
	switch {
	case needed && (c.ClientID == "" || k.Key == nil):
		return fmt.Errorf("clientAuth %q needs clientID and a private key", c.ClientAuth)
	case !needed && (k.Key != nil || k.ID != "" || k.Algorithm != ""):
		return fmt.Errorf("a private key would be ignored with clientAuth %q: remove it", c.ClientAuth)
	case !slices.Contains([]string{"", keyjwt.RS256, keyjwt.PS256, keyjwt.ES256}, k.Algorithm):
		return fmt.Errorf("algorithm %q must be one of RS256, PS256, ES256", k.Algorithm)
	}
	return nil
}

func oneAudience(what, s string) error {
	if strings.ContainsAny(s, " \t,") {
		return fmt.Errorf("%s %q must be exactly one audience", what, s)
	}
	return nil
}

func (c *Config) checkGrant() error {
	grants := []string{ClientCredentials, TokenExchange, JWTBearer, RefreshToken}
	switch {
	case !slices.Contains(grants, c.Grant):
		return fmt.Errorf("grant %q must be one of %s", c.Grant, strings.Join(grants, ", "))
	case !c.presentsSubject() && c.SubjectAudience != "":
		return fmt.Errorf("subjectAudience would be ignored with grant %q: remove it", c.Grant)
	case c.Grant != TokenExchange && c.RequestedTokenType != "":
		return fmt.Errorf("requestedTokenType would be ignored with grant %q: remove it", c.Grant)
	case c.Grant != RefreshToken && (c.State.Store != nil || c.State.Lease != nil):
		return fmt.Errorf("a stored refresh token would be ignored with grant %q: remove it", c.Grant)
	case c.Grant == RefreshToken:
		return c.checkRefresh()
	}
	return oneAudience("subjectAudience", c.SubjectAudience)
}

// checkRefresh holds a token that is one for all to what is not of one workload.
func (c *Config) checkRefresh() error {
	switch {
	case c.State.Store == nil || c.State.Lease == nil:
		return errors.New("grant \"refresh_token\" needs a place where the refresh token is kept")
	case slices.Contains([]string{JWTSPIFFE, TLSClientAuth, SelfSignedTLS}, c.ClientAuth):
		return fmt.Errorf("clientAuth %q cannot be used with grant \"refresh_token\": its token is one for all workloads", c.ClientAuth)
	case c.RevocationURL != "":
		return errors.New("revocationURL cannot be used with grant \"refresh_token\": it would end the token of all replicas")
	}
	return nil
}

func (c *Config) checkParams() error {
	for _, s := range c.Scopes {
		if s == "" || strings.ContainsFunc(s, notScope) {
			return fmt.Errorf("scope %q must be a scope-token of RFC 6749, 3.3: no blanks, quotes or backslashes", s)
		}
	}
	for what, s := range map[string]string{"resource": c.Resource, "requestedTokenType": c.RequestedTokenType} {
		if s == "" {
			continue
		}
		if u, err := url.Parse(s); err != nil || !u.IsAbs() || u.Fragment != "" {
			return fmt.Errorf("%s %q must be an absolute URI without fragment", what, s)
		}
	}
	return nil
}

func notScope(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }
