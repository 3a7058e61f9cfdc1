// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"

	"github.com/egret-proxy/egret/internal/secret"
)

const (
	proxyAuthorization    = "Proxy-Authorization"
	maxProxyAuthorization = 16 << 10 // bytes of the field's value
)

// TakeProxyAuthorization removes the field from h, whatever it holds, and returns the
// token in it, so that it can neither be logged nor forwarded nor parsed twice (MUST
// I10). ErrUnknown without the field, ErrInvalid where it is there more than once or
// does not parse.
func TakeProxyAuthorization(h http.Header) (secret.Secret, error) {
	var values []string
	for name, v := range h {
		// A map can hold names that are not canonical; they would be forwarded too.
		if strings.EqualFold(name, proxyAuthorization) {
			values = append(values, v...)
			delete(h, name)
		}
	}
	switch len(values) {
	case 0:
		return secret.Secret{}, fmt.Errorf("%w: no Proxy-Authorization", ErrUnknown)
	case 1:
		return ParseProxyAuthorization(values[0])
	}
	return secret.Secret{}, fmt.Errorf("%w: %d Proxy-Authorization fields, must be one", ErrInvalid, len(values))
}

// ParseProxyAuthorization reads the token from the value of the one Proxy-Authorization
// field: "Bearer TOKEN" (RFC 6750), or "Basic" with the token as the password and any
// user name (RFC 7617), which is what clients make of https_proxy=http://any:TOKEN@….
// The token is one or more characters of b64token and nothing else. ErrUnknown for an
// empty value and for schemes that are not ours, ErrInvalid for everything else. No
// error quotes the value.
func ParseProxyAuthorization(header string) (secret.Secret, error) {
	if header == "" {
		return secret.Secret{}, fmt.Errorf("%w: no Proxy-Authorization", ErrUnknown)
	}
	if len(header) > maxProxyAuthorization {
		return secret.Secret{}, invalidAuth(fmt.Sprintf("%d bytes, at most %d are read", len(header), maxProxyAuthorization))
	}
	scheme, rest, ok := strings.Cut(header, " ")
	if !ok {
		return secret.Secret{}, invalidAuth("no scheme followed by one space and a value")
	}
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		return token68(rest, "bearer token")
	case strings.EqualFold(scheme, "Basic"):
		return basicPassword(rest)
	}
	return secret.Secret{}, fmt.Errorf("%w: Proxy-Authorization is neither Bearer nor Basic", ErrUnknown)
}

func basicPassword(encoded string) (secret.Secret, error) {
	if strings.ContainsAny(encoded, "\r\n") { // the decoder would skip them
		return secret.Secret{}, invalidAuth("line break in Basic")
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return secret.Secret{}, invalidAuth("Basic is not base64")
	}
	_, password, ok := strings.Cut(string(raw), ":")
	if !ok {
		return secret.Secret{}, invalidAuth("Basic holds no colon")
	}
	return token68(password, "password of Basic")
}

// token68 checks the grammar that RFC 6750 calls b64token: characters, then padding.
func token68(s, what string) (secret.Secret, error) {
	body := strings.TrimRight(s, "=")
	if body == "" {
		return secret.Secret{}, invalidAuth(what + " is empty")
	}
	for n := range len(body) {
		if !isTokenByte(body[n]) {
			return secret.Secret{}, invalidAuth(fmt.Sprintf("%s has a byte at %d that no token has", what, n))
		}
	}
	return secret.New(s), nil
}

func isTokenByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~+/", c) >= 0
}

func invalidAuth(why string) error {
	return fmt.Errorf("%w: Proxy-Authorization: %s", ErrInvalid, why)
}
