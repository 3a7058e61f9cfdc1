// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package oauth2

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/internal/secret"
	"github.com/egret-proxy/egret/internal/wireerr"
)

const maxBody = 64 << 10 // bytes of an answer, and of its header

// read turns an answer into a token or a typed error, which never quotes the answer.
func read(resp *http.Response) (credential.Token, error) {
	if resp.StatusCode != http.StatusOK {
		return credential.Token{}, refusal(resp)
	}
	fields, err := readJSON(resp)
	if err != nil {
		return credential.Token{}, err
	}
	tok, err := parseToken(fields)
	if err != nil {
		return credential.Token{}, err
	}
	tok.Lifetime = lessAge(tok.Lifetime, resp.Header.Get("Age"))
	return tok, nil
}

// readJSON decodes the members of a JSON object by their exact names: encoding/json
// into a struct would also take "Access_Token".
func readJSON(resp *http.Response) (map[string]json.RawMessage, error) {
	mt, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || mt != "application/json" {
		return nil, notMinted("answer must be application/json")
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	switch {
	case err != nil:
		return nil, unreachable(0, "answer breaks off: %w", wireerr.Wrap(err))
	case len(body) > maxBody:
		return nil, notMinted("answer must not be larger than 64 KiB")
	case !utf8.Valid(body): // the decoder would replace bytes of the token
		return nil, notMinted("answer is not UTF-8")
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil || fields == nil {
		return nil, notMinted("answer is not a JSON object")
	}
	return fields, nil
}

func parseToken(fields map[string]json.RawMessage) (credential.Token, error) {
	token, kind := text(fields["access_token"]), text(fields["token_type"])
	if token == "" {
		return credential.Token{}, notMinted("answer has no access_token")
	}
	if !strings.EqualFold(kind, "Bearer") { // DPoP and mac need more than a header
		return credential.Token{}, notMinted("token_type must be Bearer")
	}
	return credential.Token{
		Values:   map[string]secret.Secret{"token": secret.New(token)},
		Lifetime: lifetime(fields["expires_in"]),
	}, nil
}

func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// lifetime reads expires_in, a number or (from servers that get it wrong) a numeric
// string. Everything else is zero: not told (MUST C5).
func lifetime(raw json.RawMessage) time.Duration {
	s := text(raw)
	if s == "" {
		s = string(raw)
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || math.IsNaN(f) || f <= 0 {
		return 0
	}
	if f > math.MaxInt64/float64(time.Second)/2 {
		return math.MaxInt64 / 2 // absurd; the Cache sees that
	}
	return time.Duration(f * float64(time.Second))
}

// lessAge takes off the time for which a cache on the way has held the answer.
func lessAge(d time.Duration, age string) time.Duration {
	n, err := strconv.ParseUint(age, 10, 31)
	if d <= 0 || err != nil {
		return d
	}
	return max(d-time.Duration(n)*time.Second, time.Nanosecond) // told, and over; not untold
}

// refusedCodes are the errors of RFC 6749, 5.2 and 4.1.2.1, and RFC 8707, 2 that asking again does not
// change. Only codes of this list are ever logged.
//
//nolint:gochecknoglobals // a constant table
var refusedCodes = [...]string{
	"invalid_client", "invalid_grant", "unauthorized_client", "invalid_scope", "access_denied",
	"invalid_request", "unsupported_grant_type", "invalid_target",
}

// refusal maps every answer but 200.
func refusal(resp *http.Response) error {
	code := resp.StatusCode
	after := retryAfter(resp.Header)
	switch {
	case code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code >= 500:
		return unreachable(after, "status %d", code)
	case code >= 300 && code < 400:
		return notMinted("status %d: redirects are not followed", code)
	case code < 400:
		return notMinted("status %d must be 200", code)
	}
	fields, err := readJSON(resp)
	oauth := text(fields["error"])
	switch oauth {
	case "temporarily_unavailable", "server_error", "slow_down":
		return unreachable(after, "status %d, %s", code, oauth)
	}
	for _, known := range refusedCodes {
		if oauth == known {
			return &credential.Error{Kind: credential.Refused, RetryAfter: after, Err: fmt.Errorf("status %d, %s", code, known)}
		}
	}
	if code == http.StatusUnauthorized || code == http.StatusForbidden || err == nil && oauth != "" {
		return &credential.Error{Kind: credential.Refused, RetryAfter: after, Err: fmt.Errorf("status %d without a known error code", code)}
	}
	return &credential.Error{Kind: credential.NotMinted, RetryAfter: after, Err: fmt.Errorf("status %d without an OAuth error", code)}
}

// retryAfter reads seconds or an HTTP date (RFC 9110, 10.2.3). A date is taken against
// the server's own clock, so that a difference of clocks does not count. The Cache caps
// the result.
func retryAfter(h http.Header) time.Duration {
	s := h.Get("Retry-After")
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	t, err := http.ParseTime(s)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return max(t.Sub(now), 0)
}

func notMinted(format string, args ...any) error {
	return &credential.Error{Kind: credential.NotMinted, Err: fmt.Errorf(format, args...)}
}

func unreachable(after time.Duration, format string, args ...any) error {
	return &credential.Error{Kind: credential.Unreachable, RetryAfter: after, Err: fmt.Errorf(format, args...)}
}
