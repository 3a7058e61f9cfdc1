// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"cmp"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

// Ways to log in to Vault.
const (
	vaultJWT  = "jwt"
	vaultCert = "cert"
)

// VaultProvider asks HashiCorp Vault or OpenBao, logged in with the workload's own SVID, so that Vault's policies and audit log name the workload. Exactly one of kv, dynamic, clientToken and unwrap is set.
type VaultProvider struct {
	// Address is https, with a port where it is not 443, without /v1; nothing of the application's request may influence it. Required.
	Address string `json:"address"`
	// Namespace is sent as X-Vault-Namespace. Default: none.
	Namespace string `json:"namespace,omitempty"`
	// Login says how the workload gets a client token. Required, except with unwrap, where it must be absent.
	Login *VaultLogin `json:"login,omitempty"`
	// KV reads a secret of a KV version 2 engine; it has no lease and is read again after spec.ttl.
	KV *VaultKV `json:"kv,omitempty"`
	// Dynamic reads a path that makes a secret; its lease is renewed while it is used, and revoked when it is given up.
	Dynamic *VaultDynamic `json:"dynamic,omitempty"`
	// ClientToken gives Vault's own client token as {token}, for workloads that call Vault itself; write {}. Needs no keys.
	ClientToken *VaultClientToken `json:"clientToken,omitempty"`
	// Unwrap opens a response that somebody has wrapped, once, for all workloads.
	Unwrap *VaultUnwrap `json:"unwrap,omitempty"`
	// Endpoint is how the host of the address is reached.
	Endpoint *Endpoint `json:"endpoint,omitempty"`
}

// VaultLogin is a role of an auth method.
type VaultLogin struct {
	// Method is jwt, with the workload's JWT-SVID, or cert, with its X.509-SVID, which egret holds only in a sidecar and with as: egret, and which must have a common name (SPIRE: an entry with a DNS name). Required.
	Method string `json:"method"`
	// Mount is where the method is. Default: the method's name.
	Mount string `json:"mount,omitempty"`
	// Role is the role's name. Required.
	Role string `json:"role"`
	// Audience is the only one of the JWT-SVID; the role's bound_audiences must have it. Only with method: jwt. Default: the address.
	Audience string `json:"audience,omitempty"`
}

// VaultKV is a secret of a KV version 2 engine.
type VaultKV struct {
	// Mount is where the engine is. Default: secret.
	Mount string `json:"mount,omitempty"`
	// Path is that of the secret, without data/. Required.
	Path string `json:"path"`
	// Version is that of the secret. Default: the newest.
	Version int `json:"version,omitempty"`
	// Keys are the values that injections name and the secret's keys that they are at: {token: api_key}. Required.
	Keys map[string]string `json:"keys"`
}

// VaultDynamic is a path that makes a secret.
type VaultDynamic struct {
	// Path is read, its mount included: database/creds/reader. Required.
	Path string `json:"path"`
	// Parameters are sent, with POST; without them the path is read with GET.
	Parameters map[string]string `json:"parameters,omitempty"`
	// Keys are the values that injections name and the secret's keys that they are at: {token: password}. Required.
	Keys map[string]string `json:"keys"`
}

// VaultClientToken has no settings.
type VaultClientToken struct{}

// VaultUnwrap is a wrapped response.
type VaultUnwrap struct {
	// Token is where the wrapping token is. One that was opened before, or made elsewhere, is refused and told loudly: somebody else may hold the secret. Required.
	Token *SecretSource `json:"token"`
	// CreationPath is the path that the wrapping token must have been made by: secret/data/team/app. Required.
	CreationPath string `json:"creationPath"`
	// State is a file that keeps what the token held over reloads and restarts, mode 0600, relative to the policy file; its folder must be there, writable and outside of the policy. Required.
	State string `json:"state" file:"made"`
	// Keys are the values that injections name and the secret's keys that they are at: {token: api_key}. Required.
	Keys map[string]string `json:"keys"`
}

func (p *VaultProvider) check(f *faults, path string) {
	f.vaultAddress(path+".address", p.Address)
	if p.Namespace != "" {
		f.vaultPath(path+".namespace", strings.Trim(p.Namespace, "/"))
	}
	f.vaultSource(path, p)
	f.vaultLogin(path+".login", p)
	f.endpoint(path+".endpoint", p.Endpoint)
}

func (f *faults) vaultAddress(path, value string) {
	if err := checkTokenURL(value); err != nil {
		f.wrong(path, value, err)
		return
	}
	u, _ := url.Parse(value) // checked above
	switch p := strings.Trim(u.Path, "/"); {
	case p == "v1" || strings.HasSuffix(p, "/v1"):
		f.bad(path, value, "must not end in /v1, which is added")
	case p != "" && !plainPath(p):
		f.bad(path, value, plainPathRule)
	}
}

// vaultSource checks the one source that is set.
func (f *faults) vaultSource(path string, p *VaultProvider) {
	set := 0
	if s := p.KV; s != nil {
		set++
		if s.Mount != "" {
			f.vaultPath(path+".kv.mount", s.Mount)
		}
		f.vaultPath(path+".kv.path", s.Path)
		if s.Version < 0 {
			f.bad(path+".kv.version", "", "must not be negative")
		}
		f.vaultKeys(path+".kv.keys", s.Keys)
	}
	if s := p.Dynamic; s != nil {
		set++
		f.vaultPath(path+".dynamic.path", s.Path)
		f.parameters(path+".dynamic.parameters", s.Parameters)
		f.vaultKeys(path+".dynamic.keys", s.Keys)
	}
	if p.ClientToken != nil {
		set++
	}
	if s := p.Unwrap; s != nil {
		set++
		f.vaultUnwrap(path+".unwrap", s)
	}
	if set != 1 {
		f.add(Fault{path, "", "must have exactly one of kv, dynamic, clientToken and unwrap", ""})
	}
}

func (f *faults) vaultUnwrap(path string, s *VaultUnwrap) {
	if s.Token == nil {
		f.bad(path+".token", "", "is required")
	} else {
		f.source(path+".token", s.Token)
	}
	f.vaultPath(path+".creationPath", s.CreationPath)
	f.file(path+".state", s.State)
	f.vaultKeys(path+".keys", s.Keys)
}

func (f *faults) vaultLogin(path string, p *VaultProvider) {
	l := p.Login
	switch {
	case p.Unwrap != nil:
		f.absent(path, l != nil, "with unwrap")
		return
	case l == nil:
		f.add(Fault{path, "", "is required", "set method and role, as in {method: jwt, role: dashboard}"})
		return
	}
	f.oneOf(path+".method", l.Method, vaultJWT, vaultCert)
	if l.Mount != "" {
		f.vaultPath(path+".mount", l.Mount)
	}
	f.line(path+".role", l.Role)
	if l.Method == vaultCert {
		f.absent(path+".audience", l.Audience != "", "with method: cert")
	}
	f.optionalLine(path+".audience", l.Audience)
	if strings.ContainsAny(l.Audience, " \t,") {
		f.bad(path+".audience", l.Audience, "must be exactly one audience")
	}
}

const plainPathRule = "must be a path such as team/app, in printable ASCII, without a slash at its ends, empty or dot segments"

func (f *faults) vaultPath(path, value string) {
	switch {
	case value == "":
		f.bad(path, "", "is required")
	case len(value) > maxLine:
		f.bad(path, value[:maxLine], "must have at most 1024 bytes")
	case !plainPath(value):
		f.bad(path, value, plainPathRule)
	case strings.HasPrefix(value, "v1/"):
		f.bad(path, value, "must not begin with v1/, which is added")
	}
}

// plainPath reports a path that means the same to every reader.
func plainPath(s string) bool {
	for seg := range strings.SplitSeq(s, "/") {
		if seg == "" || seg == "." || seg == ".." {
			return false
		}
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return r > unicode.MaxASCII || r <= ' ' || r == 0x7f || strings.ContainsRune(`?#%\`, r)
	}) < 0
}

// vaultKeys checks a map from values to keys. Faults name no key of it that is not a name.
func (f *faults) vaultKeys(path string, keys map[string]string) {
	if len(keys) == 0 {
		f.add(Fault{path, "", "is required", "name a value and its key in the secret, as in {token: api_key}"})
	}
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		if !valueName(name) {
			f.bad(path, "", "must name values by letters, digits and _, beginning with a letter")
			continue
		}
		f.line(path+"."+name, keys[name])
	}
}

// valueName reports a name that a template or a signer can use.
func valueName(s string) bool {
	return s != "" && len(s) <= 64 && envName(s) && s[0] != '_'
}

// parameters checks what is sent along.
func (f *faults) parameters(path string, members map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if strings.TrimSpace(name) == "" || !printable(name) || len(name) > maxLine {
			f.bad(path, "", "must have printable names")
			continue
		}
		f.optionalLine(path+"."+name, members[name])
	}
}

func (p *VaultProvider) traits() traits {
	t := traits{shared: p.Unwrap != nil, usesSVID: p.Login != nil}
	if p.Login != nil && p.Login.Method == vaultJWT {
		t.assertion = cmp.Or(p.Login.Audience, p.Address)
	}
	var keys map[string]string
	switch {
	case p.KV != nil:
		keys = p.KV.Keys
	case p.Dynamic != nil:
		keys = p.Dynamic.Keys
	case p.Unwrap != nil:
		keys = p.Unwrap.Keys
	default:
		return t
	}
	t.values = slices.Sorted(maps.Keys(keys))
	return t
}
