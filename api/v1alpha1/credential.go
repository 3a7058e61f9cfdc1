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

// asEgret is the one value of as.
const asEgret = "egret"

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
	name, spec := s.Provider.only()
	if spec == nil {
		f.add(Fault{"spec.provider", "", "must have exactly one member", "set one of " + list(providerKinds())})
		return
	}
	spec.check(f, "spec.provider."+name)
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

func (f *faults) as(s *CredentialSpec) {
	if s.As == "" {
		return
	}
	f.oneOf("spec.as", s.As, asEgret)
	f.absent("spec.as", !s.Provider.traits().usesSVID, "unless the provider logs in with an SVID")
}

// key makes what the data path names the credential by.
func (x *Credential) key(generation string) *policy.Credential {
	t := x.Spec.Provider.traits()
	return &policy.Credential{
		Name: x.Metadata.Name, Generation: generation, Shared: t.shared, Audience: t.audience, Resource: t.resource,
		Scopes: strings.Join(slices.Sorted(slices.Values(t.scopes)), " "),
	}
}

func (s *CredentialSpec) lifetime() time.Duration {
	if d, err := time.ParseDuration(s.TTL); err == nil {
		return d
	}
	return DefaultTTL
}
