// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/egret-proxy/egret/policy"
)

// Ways to authenticate at a token endpoint, and the one value of as.
const (
	clientSecretBasic = "client_secret_basic"
	clientSecretPost  = "client_secret_post"
	clientJWTSPIFFE   = "jwt-spiffe"
	asEgret           = "egret"
)

// DefaultTTL is how long a credential is kept where neither its issuer nor spec.ttl
// tells a lifetime.
const DefaultTTL = time.Hour

// Validate returns everything that is wrong within the object.
func (x *Credential) Validate() []Fault {
	var f faults
	f.head(x.APIVersion, x.Kind, KindCredential)
	f.name("metadata.name", x.Metadata.Name)
	if x.Metadata.Name == credentialNone {
		f.bad("metadata.name", credentialNone, `must not be "none", which in an AccessPolicy means no credential`)
	}
	f.line("spec.owner", x.Spec.Owner)
	f.name("spec.environment", x.Spec.Environment)
	f.references("spec.destinations", x.Spec.Destinations)
	f.usableBy(x.Spec.UsableBy)
	f.provider(&x.Spec)
	f.as(&x.Spec)
	f.duration("spec.ttl", x.Spec.TTL, span{time.Second, 24 * time.Hour})
	f.injections(&x.Spec)
	return f
}

// references checks a required list of names.
func (f *faults) references(path string, list []string) {
	if len(list) == 0 {
		f.bad(path, "", "is required")
	}
	for i, n := range list {
		f.name(at(path, i), n)
	}
	f.distinct(path, list)
}

func (f *faults) usableBy(list []string) {
	const path = "spec.usableBy"
	if len(list) == 0 {
		f.add(Fault{path, "", "is required: without it nobody may use the credential", "list workloads, or SPIFFE ID patterns"})
	}
	for i, u := range list {
		if !strings.Contains(u, ":") {
			f.name(at(path, i), u)
		} else if _, err := policy.ParseIDScope(u); err != nil {
			f.wrong(at(path, i), u, err)
		}
	}
	f.distinct(path, list)
}

func (f *faults) provider(s *CredentialSpec) {
	p := s.Provider
	switch {
	case (p.Static == nil) == (p.OAuth2 == nil):
		f.add(Fault{"spec.provider", "", "must have exactly one member", "set static or oauth2"})
	case p.Static != nil:
		f.source("spec.provider.static.value", &p.Static.Value)
		f.optionalLine("spec.provider.static.username", p.Static.Username)
		if strings.Contains(p.Static.Username, ":") {
			f.bad("spec.provider.static.username", p.Static.Username, "must not hold a colon (RFC 7617)")
		}
	default:
		f.oauth2(p.OAuth2)
	}
}

func (f *faults) source(path string, s *SecretSource) {
	set := 0
	for _, v := range []string{s.File, s.SystemdCredential, s.Env} {
		if v != "" {
			set++
		}
	}
	switch {
	case set != 1:
		f.add(Fault{path, "", "must have exactly one member", "set file, systemdCredential or env: where the secret is, never the secret itself"})
	case s.File != "":
		f.file(path+".file", s.File)
	case s.SystemdCredential != "":
		if strings.ContainsAny(s.SystemdCredential, "/\x00") || strings.Trim(s.SystemdCredential, ".") == "" {
			f.bad(path+".systemdCredential", s.SystemdCredential, "must be a name, not a path")
		}
	case !envName(s.Env):
		f.bad(path+".env", s.Env, "must be the name of an environment variable")
	}
}

func envName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

func (f *faults) oauth2(p *OAuth2Provider) {
	const path = "spec.provider.oauth2"
	f.oneOf(path+".grant", p.Grant, "client_credentials")
	f.wrong(path+".tokenURL", p.TokenURL, checkTokenURL(p.TokenURL))
	f.clientAuth(path, p)
	for i, s := range p.Scopes {
		if !scopeToken(s) {
			f.add(Fault{fmt.Sprintf("%s.scopes[%d]", path, i), s, "must be one scope (RFC 6749, 3.3)", "one list entry for each scope"})
		}
	}
	f.distinct(path+".scopes", p.Scopes)
	f.optionalLine(path+".audience", p.Audience)
	f.resource(path+".resource", p.Resource)
	if p.Roots != "" {
		f.file(path+".roots", p.Roots)
	}
	f.dial(path+".dial", p.Dial)
	f.prefixes(path+".allowPrivate", p.AllowPrivate)
}

func (f *faults) clientAuth(path string, p *OAuth2Provider) {
	f.oneOf(path+".clientAuth", p.ClientAuth, "", clientSecretBasic, clientSecretPost, clientJWTSPIFFE)
	f.optionalLine(path+".clientID", p.ClientID)
	if p.ClientAuth == clientJWTSPIFFE {
		f.absent(path+".clientSecret", p.ClientSecret != nil, "with clientAuth: jwt-spiffe")
		f.optionalLine(path+".assertionAudience", p.AssertionAudience)
		return
	}
	f.absent(path+".assertionAudience", p.AssertionAudience != "", "without clientAuth: jwt-spiffe")
	if p.ClientID == "" {
		f.bad(path+".clientID", "", "is required")
	}
	if p.ClientSecret == nil {
		f.add(Fault{path + ".clientSecret", "", "is required", "or use clientAuth: jwt-spiffe, which needs none"})
		return
	}
	f.source(path+".clientSecret", p.ClientSecret)
}

// checkTokenURL: https, a canonical host, and nothing that could carry a secret or be
// influenced (MUST T10).
func checkTokenURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case s == "":
		return fmt.Errorf("is required")
	case err != nil || !printable(s):
		return fmt.Errorf("must be a URL")
	case u.Scheme != "https" || u.Opaque != "" || u.Hostname() == "":
		return fmt.Errorf("must be https with a host")
	case u.User != nil:
		return fmt.Errorf("must not hold user information")
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#"):
		return fmt.Errorf("must not hold a query or fragment")
	}
	if _, err := policy.ParseHost(u.Hostname()); err != nil {
		return err
	}
	if u.Port() != "" || strings.HasSuffix(u.Host, ":") {
		_, err = policy.ParseTarget(u.Host)
	}
	return err
}

func (f *faults) resource(path, value string) {
	if value == "" {
		return
	}
	u, err := url.Parse(value)
	if err != nil || !u.IsAbs() || strings.Contains(value, "#") || !printable(value) {
		f.bad(path, value, "must be an absolute URI without fragment (RFC 8707)")
	}
}

// scopeToken implements RFC 6749, 3.3: 1*( %x21 / %x23-5B / %x5D-7E ).
func scopeToken(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool {
		return r < 0x21 || r > 0x7e || r == '"' || r == '\\'
	}) < 0
}

func (f *faults) as(s *CredentialSpec) {
	if s.As == "" {
		return
	}
	f.oneOf("spec.as", s.As, asEgret)
	f.absent("spec.as", s.Provider.OAuth2 == nil || s.Provider.OAuth2.ClientAuth != clientJWTSPIFFE,
		"unless the provider logs in with an SVID (clientAuth: jwt-spiffe)")
}

// key makes what the data path names the credential by.
func (x *Credential) key(generation string) *policy.Credential {
	k := &policy.Credential{Name: x.Metadata.Name, Generation: generation, Shared: x.Spec.Provider.Static != nil}
	if p := x.Spec.Provider.OAuth2; p != nil {
		k.Audience, k.Resource = p.Audience, p.Resource
		k.Scopes = strings.Join(slices.Sorted(slices.Values(p.Scopes)), " ")
	}
	return k
}

func (s *CredentialSpec) lifetime() time.Duration {
	if d, err := time.ParseDuration(s.TTL); err == nil {
		return d
	}
	return DefaultTTL
}
