// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package exchange

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer"
)

func answer(status int, body string, header ...string) *issuer.Answer {
	a := &issuer.Answer{Status: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(body)}
	for i := 0; i+1 < len(header); i += 2 {
		a.Header.Set(header[i], header[i+1])
	}
	return a
}

func TestToken(t *testing.T) {
	for body, want := range map[string]time.Duration{
		`{"access_token":"t","token_type":"Bearer","expires_in":3600}`:   time.Hour,
		`{"access_token":"t","token_type":"bearer","expires_in":"3600"}`: time.Hour,
		`{"access_token":"t","token_type":"BEARER"}`:                     0,
	} {
		tok, err := Token(answer(200, body))
		if err != nil || tok.Values["token"].Reveal() != "t" || tok.Lifetime != want {
			t.Errorf("%s: %+v, %v", body, tok, err)
		}
	}
	aged := answer(200, `{"access_token":"t","token_type":"Bearer","expires_in":3600}`, "Age", "600")
	if tok, err := Token(aged); err != nil || tok.Lifetime != 50*time.Minute {
		t.Errorf("%s, %v: the time in a cache on the way counts", tok.Lifetime, err)
	}
}

func TestNoToken(t *testing.T) {
	for name, tc := range map[string]struct {
		answer *issuer.Answer
		want   credential.Kind
		told   string
	}{
		"DPoP":             {answer(200, `{"access_token":"hush","token_type":"DPoP"}`), credential.NotMinted, "must be Bearer"},
		"no type":          {answer(200, `{"access_token":"hush"}`), credential.NotMinted, "must be Bearer"},
		"no token":         {answer(200, `{"token_type":"Bearer"}`), credential.NotMinted, "no access_token"},
		"other spelling":   {answer(200, `{"Access_Token":"hush","token_type":"Bearer"}`), credential.NotMinted, "no access_token"},
		"201":              {answer(201, `{"access_token":"hush","token_type":"Bearer"}`), credential.NotMinted, "status 201"},
		"invalid_grant":    {answer(400, `{"error":"invalid_grant","error_description":"hush"}`), credential.Refused, "status 400, invalid_grant"},
		"unknown code":     {answer(400, `{"error":"hush"}`), credential.Refused, "status 400"},
		"not OAuth":        {answer(400, `{"hush":1}`), credential.NotMinted, "status 400"},
		"422":              {answer(422, `{"error":"hush"}`), credential.Refused, "status 422"},
		"for a while":      {answer(400, `{"error":"temporarily_unavailable"}`), credential.Unreachable, "status 400"},
		"Google's form":    {answer(404, `{"error":{"code":404,"message":"hush","status":"NOT_FOUND"}}`), credential.Refused, "NOT_FOUND"},
		"Google's quota":   {answer(429, `{"error":{"code":429,"message":"hush","status":"RESOURCE_EXHAUSTED"}}`), credential.Unreachable, "RESOURCE_EXHAUSTED"},
		"Anthropic's form": {answer(403, `{"type":"error","error":{"type":"permission_error","message":"hush"}}`), credential.Refused, "permission_error"},
		"500 with a code":  {answer(500, `{"error":"invalid_grant"}`), credential.Unreachable, "status 500"},
		"302":              {answer(302, `{"error":"invalid_grant"}`), credential.NotMinted, "redirects are not followed"},
	} {
		tok, err := Token(tc.answer)
		e, ok := err.(*credential.Error) //nolint:errorlint // the outermost must be one
		if !ok || e.Kind != tc.want || len(tok.Values) != 0 {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
			continue
		}
		if !strings.Contains(e.Error(), tc.told) || strings.Contains(e.Error(), "hush") {
			t.Errorf("MUST C9: %s: %v, want %q", name, e, tc.told)
		}
	}
}

func FuzzToken(f *testing.F) {
	f.Add(200, `{"access_token":"t","token_type":"Bearer","expires_in":3600}`)
	f.Add(400, `{"error":{"status":"NOT_FOUND"}}`)
	f.Add(400, `{"error":"temporarily_unavailable"}`)
	f.Fuzz(func(t *testing.T, status int, body string) {
		tok, err := Token(answer(status, body))
		if err == nil {
			if status != 200 || tok.Values["token"].IsZero() || tok.Lifetime < 0 || !strings.Contains(strings.ToLower(body), "bearer") {
				t.Fatalf("%d %q gives %+v", status, body, tok)
			}
			return
		}
		if _, ok := err.(*credential.Error); !ok || len(tok.Values) != 0 { //nolint:errorlint // the outermost must be one
			t.Fatalf("%v (%T), %+v", err, err, tok)
		}
	})
}
