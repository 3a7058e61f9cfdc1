// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/egret-proxy/egret/internal/secret"
)

func basic(userPassword string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(userPassword))
}

func TestMUST_I10_ParseProxyAuthorization(t *testing.T) {
	const jwt = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln-_A"
	long := strings.Repeat("a", maxProxyAuthorization-len("Bearer "))
	tests := []struct {
		name, header, want string
		err                error
	}{
		{"bearer", "Bearer " + jwt, jwt, nil},
		{"bearer in another case", "bEARER " + jwt, jwt, nil},
		{"bearer with padding", "Bearer YWJj==", "YWJj==", nil},
		{"basic", basic("spiffe:" + jwt), jwt, nil},
		{"basic without a user", basic(":" + jwt), jwt, nil},
		{"basic with any user", basic("ü ser:" + jwt), jwt, nil},
		{"longest", "Bearer " + long, long, nil},

		{"nothing", "", "", ErrUnknown},
		{"another scheme", "Negotiate YWJj", "", ErrUnknown},
		{"digest", `Digest username="a"`, "", ErrUnknown},

		{"too long", "Bearer " + long + "a", "", ErrInvalid},
		{"scheme only", "Bearer", "", ErrInvalid},
		{"no token", "Bearer ", "", ErrInvalid},
		{"padding only", "Bearer ==", "", ErrInvalid},
		{"padding inside", "Bearer a=b", "", ErrInvalid},
		{"two spaces", "Bearer  " + jwt, "", ErrInvalid},
		{"tab", "Bearer\t" + jwt, "", ErrInvalid},
		{"leading space", " Bearer " + jwt, "", ErrUnknown},
		{"trailing space", "Bearer " + jwt + " ", "", ErrInvalid},
		{"two in one field", "Bearer " + jwt + ", Bearer " + jwt, "", ErrInvalid},
		{"line break", "Bearer a\r\nX: y", "", ErrInvalid},
		{"NUL", "Bearer a\x00", "", ErrInvalid},
		{"quoted", `Bearer "` + jwt + `"`, "", ErrInvalid},
		{"not ASCII", "Bearer tökén", "", ErrInvalid},
		{"basic, not base64", "Basic !", "", ErrInvalid},
		{"basic, line break", basic("a:b") + "\r\n", "", ErrInvalid},
		{"basic, no padding", "Basic " + base64.RawStdEncoding.EncodeToString([]byte("a:bb")), "", ErrInvalid},
		{"basic, spare bits", "Basic YTpiYl==", "", ErrInvalid},
		{"basic, base64url", "Basic " + base64.URLEncoding.EncodeToString([]byte("\xff\xfe:??>>")), "", ErrInvalid},
		{"basic, no colon", basic(jwt), "", ErrInvalid},
		{"basic, no password", basic("user:"), "", ErrInvalid},
		{"basic, colon in the password", basic("user:a:b"), "", ErrInvalid},
		{"basic, space in the password", basic("user:a b"), "", ErrInvalid},
		{"basic, line break in the password", basic("user:a\n"), "", ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseProxyAuthorization(tt.header)
			wantError(t, err, tt.err)
			if got.Reveal() != tt.want {
				t.Errorf("got %q, want %q", got.Reveal(), tt.want)
			}
			if err != nil && strings.Contains(err.Error(), jwt) {
				t.Errorf("the error quotes the token: %v", err)
			}
		})
	}
}

func TestMUST_I10_TakeProxyAuthorization(t *testing.T) {
	tests := []struct {
		name string
		h    http.Header
		want string
		err  error
	}{
		{"one", http.Header{"Proxy-Authorization": {"Bearer abc"}}, "abc", nil},
		{"not canonical", http.Header{"proxy-authorization": {"Bearer abc"}}, "abc", nil},
		{"none", http.Header{"Authorization": {"Bearer abc"}}, "", ErrUnknown},
		{"empty", http.Header{"Proxy-Authorization": {""}}, "", ErrUnknown},
		{"two", http.Header{"Proxy-Authorization": {"Bearer abc", "Bearer abc"}}, "", ErrInvalid},
		{"two spellings", http.Header{"Proxy-Authorization": {"Bearer abc"}, "PROXY-AUTHORIZATION": {"Bearer d"}}, "", ErrInvalid},
		{"bad", http.Header{"Proxy-Authorization": {"Bearer a b"}}, "", ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.h.Set("User-Agent", "x")
			got, err := TakeProxyAuthorization(tt.h)
			wantError(t, err, tt.err)
			if got.Reveal() != tt.want {
				t.Errorf("got %q, want %q", got.Reveal(), tt.want)
			}
			for name := range tt.h {
				if strings.EqualFold(name, proxyAuthorization) {
					t.Errorf("%s is still there", name)
				}
			}
			if tt.h.Get("User-Agent") != "x" {
				t.Error("another field is gone")
			}
		})
	}
}

// FuzzParseProxyAuthorization: a token that comes out is one that can go into either
// scheme and come out the same; the errors are two, and quote nothing.
func FuzzParseProxyAuthorization(f *testing.F) {
	for _, s := range []string{"", "Bearer a.b.c", "bearer a==", basic("spiffe:a.b.c"), basic(":"), "Basic YTpi\r\n", "Bearer \x00", "Digest x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		got, err := ParseProxyAuthorization(header)
		if err != nil {
			if !got.IsZero() || errors.Is(err, ErrUnknown) == errors.Is(err, ErrInvalid) {
				t.Errorf("%q: token with an error, or not one of the two: %v", header, err)
			}
			return
		}
		token := got.Reveal()
		if token == "" || len(token) > maxProxyAuthorization || strings.ContainsAny(token, " \t\r\n\x00,:\"") {
			t.Errorf("%q: token %q", header, token)
		}
		for _, again := range []string{"Bearer " + token, basic("any:" + token)} {
			if len(again) > maxProxyAuthorization {
				continue
			}
			if back, err := ParseProxyAuthorization(again); err != nil || !back.Equal(secret.New(token)) {
				t.Errorf("%q does not come back: %v", again, err)
			}
		}
	})
}
