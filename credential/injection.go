// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/egret-proxy/egret/internal/secret"
)

// InjectionConfig says where a value goes. At most one of Header, Basic, Query and Signer
// is set; an entry with none of them only removes.
type InjectionConfig struct {
	Header string   // name of the header to set
	Basic  string   // user name (may hold {username}) of Authorization: Basic; {token} is the password
	Query  string   // name of the query parameter to set; the last resort, since URLs are logged
	Signer Signer   // signs the whole request
	Value  string   // template for Header and Query; default {token} for Query
	Remove []string // further request headers to delete
	Hosts  []string // canonical, or "*.example.com" for exactly one label; empty: every host
}

// Injection is a compiled InjectionConfig. Immutable; the zero Injection puts nothing
// in, so that a request with only such a one is refused.
type Injection struct {
	header string // canonical form
	query  string
	signer Signer
	basic  bool
	value  template // for basic: the user name
	remove []string
	hosts  []string
}

// NewInjection validates and compiles c. Errors name the field and the rule.
func NewInjection(c InjectionConfig) (Injection, error) {
	in := Injection{hosts: slices.Clone(c.Hosts)}
	for _, check := range []func(InjectionConfig) error{in.compileTarget, in.compileValue, in.compileRemove} {
		if err := check(c); err != nil {
			return Injection{}, err
		}
	}
	for _, h := range c.Hosts {
		if err := checkHostPattern(h); err != nil {
			return Injection{}, err
		}
	}
	return in, nil
}

func (in *Injection) compileTarget(c InjectionConfig) error {
	set := 0
	for _, s := range []string{c.Header, c.Basic, c.Query} {
		if s != "" {
			set++
		}
	}
	if in.signer = c.Signer; c.Signer != nil {
		set++
	}
	if set > 1 {
		return errors.New("inject: only one of header, basic, query and a signature may be set in one entry: write an entry for each")
	}
	if set == 0 && len(c.Remove) == 0 {
		return errors.New("inject: one of header, basic, query and a signature must be set")
	}
	switch {
	case c.Header != "":
		name, err := headerName("header", c.Header)
		in.header = name
		return err
	case c.Basic != "":
		in.header, in.basic = "Authorization", true
	case c.Query != "":
		in.query = c.Query
		return checkParam(c.Query)
	}
	return nil
}

func (in *Injection) compileValue(c InjectionConfig) error {
	text, field := c.Value, "value"
	switch {
	case c.Basic != "":
		if c.Value != "" {
			return errors.New("inject: value would be ignored beside basic: remove it")
		}
		if strings.Contains(c.Basic, ":") {
			return fmt.Errorf("inject: basic %q must not hold a colon (RFC 7617): the password is always {token}", c.Basic)
		}
		text, field = c.Basic, "basic"
	case c.Query != "" && text == "":
		text = "{token}"
	case c.Header != "" && text == "":
		return fmt.Errorf("inject: value of header %q must be set, for example \"Bearer {token}\"", c.Header)
	case c.Header == "" && c.Query == "":
		if text != "" {
			return errors.New("inject: value would be ignored without header or query: remove it")
		}
		return nil
	}
	t, err := parseTemplate(text)
	if err != nil {
		return fmt.Errorf("inject: %s %q %w", field, text, err)
	}
	if err := checkFieldValue(strings.Join(t.lits, "x")); err != nil {
		return fmt.Errorf("inject: %s %q: %w", field, text, err)
	}
	in.value = t
	return nil
}

func (in *Injection) compileRemove(c InjectionConfig) error {
	for _, h := range c.Remove {
		name, err := headerName("remove", h)
		if err != nil {
			return err
		}
		in.remove = append(in.remove, name)
	}
	return nil
}

// framing headers belong to the connection or say where the request goes; a credential
// in (or the loss of) one of them would change the request that policy decided on.
//
//nolint:gochecknoglobals // a constant table
var framing = []string{
	"Connection", "Content-Length", "Expect", "Host", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

func headerName(field, s string) (string, error) {
	if !httpguts.ValidHeaderFieldName(s) {
		return "", fmt.Errorf("inject: %s %q must be a header name (RFC 9110 token)", field, s)
	}
	name := http.CanonicalHeaderKey(s)
	if slices.ContainsFunc(framing, func(f string) bool { return sameName(f, name) }) || sameName("Proxy-", name[:min(6, len(name))]) {
		return "", fmt.Errorf("inject: %s %q must not be a header of framing or routing", field, s)
	}
	return name, nil
}

func checkParam(s string) error {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_.", c) >= 0) {
			return fmt.Errorf("inject: query %q must have only letters, digits, dashes, underscores and full stops", s)
		}
	}
	return nil
}

func checkHostPattern(p string) error {
	h := strings.TrimPrefix(p, "*.")
	bad := h == "" || strings.ContainsAny(h, "*/@?#% \t[]") || strings.HasSuffix(h, ".") || h != strings.ToLower(h)
	if bad || strings.HasPrefix(p, "*.") && strings.Contains(h, ":") {
		return fmt.Errorf("inject: host %q must be a canonical name (lower case, no trailing dot, no port) or *.name for one label", p)
	}
	return nil
}

// Headers returns the canonical names of all headers that this injection writes or
// deletes, so that the data path can treat the caller's own as credentials (MUST H2).
func (in Injection) Headers() []string {
	names := slices.Clone(in.remove)
	if in.header != "" {
		names = append(names, in.header)
	}
	if in.signer != nil {
		names = append(names, in.signer.Headers()...)
	}
	return names
}

// sets reports whether the entry puts anything in.
func (in Injection) sets() bool { return in.header != "" || in.query != "" || in.signer != nil }

// matches reports whether in applies to a canonical host.
func (in Injection) matches(host string) bool {
	return len(in.hosts) == 0 || slices.ContainsFunc(in.hosts, func(p string) bool { return hostMatches(p, host) })
}

func hostMatches(pattern, host string) bool {
	suffix, wild := strings.CutPrefix(pattern, "*.")
	if !wild {
		return host == pattern
	}
	label, rest, ok := strings.Cut(host, ".")
	return ok && label != "" && rest == suffix
}

// rendered is an Injection with its value: header or query is ready for the wire.
type rendered struct {
	Injection
	wire   secret.Secret
	values map[string]secret.Secret // for the signer
}

func (in Injection) render(values map[string]secret.Secret) (rendered, error) {
	if in.signer != nil {
		return rendered{Injection: in, values: values}, nil
	}
	if !in.sets() {
		return rendered{Injection: in}, nil
	}
	v, err := in.value.render(values)
	if err == nil && in.basic {
		v, err = basicValue(v, values["token"])
	}
	if err == nil && in.query != "" {
		// %20 and not +, which only form decoders read as a space.
		v = secret.New(strings.ReplaceAll(url.QueryEscape(v.Reveal()), "+", "%20"))
	}
	if err != nil {
		return rendered{}, fmt.Errorf("inject %s: %w", in.place(), err)
	}
	return rendered{Injection: in, wire: v}, nil
}

func (in Injection) place() string {
	switch {
	case in.query != "":
		return "query " + in.query
	case in.signer != nil:
		return "a signature"
	}
	return "header " + in.header
}

func basicValue(user, token secret.Secret) (secret.Secret, error) {
	if strings.Contains(user.Reveal(), ":") {
		return secret.Secret{}, errors.New("user name holds a colon (RFC 7617)")
	}
	if err := checkFieldValue(token.Reveal()); err != nil {
		return secret.Secret{}, err
	}
	return secret.New("Basic " + base64.StdEncoding.EncodeToString([]byte(user.Reveal()+":"+token.Reveal()))), nil
}

// sameName compares header names as servers behind CGI-like gateways see them: ASCII
// case and the difference of "_" and "-" do not count (MUST H2).
func sameName(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if foldByte(a[i]) != foldByte(b[i]) {
			return false
		}
	}
	return true
}

func foldByte(c byte) byte {
	switch {
	case c >= 'A' && c <= 'Z':
		return c + 'a' - 'A'
	case c == '_':
		return '-'
	}
	return c
}

// deleteHeader removes every spelling of name.
func deleteHeader(h http.Header, name string) {
	for k := range h {
		if sameName(k, name) {
			delete(h, k)
		}
	}
}
