// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package sigv4

import (
	"net/http"
	"net/url"
	"strings"
)

// Check looks at a request as its sender made it, before anything is removed from it.
// The sender may sign with placeholder keys, or not at all. A signature for another
// service or region than s is refused with a *Refusal: the sender means another place
// than the one that it reaches. So is what Sign could not sign.
func Check(r *http.Request, s Scope) error {
	if err := checkQuery(r.URL.RawQuery); err != nil {
		return err
	}
	mode, err := declared(r.Header)
	if err == nil && mode != "" {
		_, err = modeOf(mode, s)
	}
	if err != nil {
		return err
	}
	switch auth := r.Header["Authorization"]; len(auth) {
	case 0:
		return nil
	case 1:
		return checkAuthorization(auth[0], s)
	}
	return refuse("Authorization must be sent once")
}

// checkAuthorization compares the scope of a signature, which nobody verifies, with the
// configured one. Other schemes say nothing of a scope.
func checkAuthorization(value string, want Scope) error {
	scheme, rest, _ := strings.Cut(strings.TrimSpace(value), " ")
	switch {
	case !strings.HasPrefix(scheme, "AWS4-"):
		return nil
	case scheme != algorithm:
		return refuse("the request is signed with %q: let the client use SigV4 (%s)", clip(scheme), algorithm)
	}
	got, ok := scopeOf(rest)
	switch {
	case !ok:
		return refuse("Authorization has no readable Credential=KEY/DATE/REGION/SERVICE/%s", terminal)
	case got != want:
		return refuse("the request is signed for %q in %q, and the host is configured for %q in %q", clip(got.Service), clip(got.Region), want.Service, want.Region)
	}
	return nil
}

func scopeOf(params string) (Scope, bool) {
	for part := range strings.SplitSeq(params, ",") {
		value, found := strings.CutPrefix(strings.TrimSpace(part), "Credential=")
		if !found {
			continue
		}
		f := strings.Split(value, "/")
		n := len(f)
		if n < 5 || f[n-1] != terminal { // the key itself may hold slashes
			return Scope{}, false
		}
		return Scope{Service: f[n-2], Region: f[n-3]}, true
	}
	return Scope{}, false
}

// checkQuery refuses presigned URLs: their signature is in what policy has decided on,
// and a URL that carries a signature is made to be handed on.
func checkQuery(raw string) error {
	for raw != "" {
		var part string
		part, raw, _ = strings.Cut(raw, "&")
		name, _, _ := strings.Cut(part, "=")
		if n, err := url.QueryUnescape(name); err == nil {
			name = n
		}
		switch strings.ToLower(name) {
		case "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires", "x-amz-signedheaders",
			"x-amz-signature", "x-amz-security-token", "x-amz-region-set", "x-amz-s3session-token", "awsaccesskeyid":
			return refuse("query parameter %q belongs to a presigned URL: send the request itself, signed with placeholder keys or not at all", clip(name))
		}
	}
	return nil
}
