// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package google

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/egret-proxy/egret/credential/exchange"
	"github.com/egret-proxy/egret/credential/svid/svidtest"
)

const (
	workloadProvider = "projects/123456789012/locations/global/workloadIdentityPools/spire/providers/acme"
	account          = "reader@acme-prod.iam.gserviceaccount.com"
	between          = "between@acme-prod.iam.gserviceaccount.com"
	id               = "spiffe://acme.example/ns/qa/sa/dashboard"
)

// twin is the Security Token Service and the IAM Credentials API as they are documented:
// docs.cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token and
// …/credentials/rest/v1/projects.serviceAccounts.
type twin struct {
	jwks     []byte
	audience string // that the pool's provider allows
	long     bool   // the organization policy for lifetimes over an hour
	expire   string // told as expireTime, instead of the true one
	idToken  string // told instead of a true one

	mu        sync.Mutex
	federated []string
	forms     []url.Values
	bodies    []map[string]any
}

func newTwin(d *svidtest.Domain) *twin {
	return &twin{jwks: d.JWKS(), audience: "https://iam.googleapis.com/" + workloadProvider}
}

func (w *twin) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case r.Method != http.MethodPost || r.URL.RawQuery != "":
		rw.WriteHeader(http.StatusNotFound)
	case r.Host == "sts.googleapis.com" && r.URL.Path == "/v1/token":
		w.exchange(rw, r)
	case r.Host == "iamcredentials.googleapis.com":
		w.credentials(rw, r)
	default:
		rw.WriteHeader(http.StatusNotFound)
	}
}

func say(rw http.ResponseWriter, status int, v any) {
	rw.Header().Set("Content-Type", "application/json; charset=UTF-8")
	rw.WriteHeader(status)
	_ = json.NewEncoder(rw).Encode(v)
}

func (w *twin) exchange(rw http.ResponseWriter, r *http.Request) {
	code, why := w.flaw(r)
	if code != "" {
		say(rw, http.StatusBadRequest, map[string]string{"error": code, "error_description": why + " hush-hush"})
		return
	}
	w.forms = append(w.forms, r.PostForm)
	token := fmt.Sprintf("ya29.d.federated-%d", len(w.federated)+1)
	w.federated = append(w.federated, token)
	say(rw, http.StatusOK, map[string]any{
		"access_token": token, "issued_token_type": exchange.TypeAccess, "token_type": "Bearer", "expires_in": 3599,
	})
}

func (w *twin) flaw(r *http.Request) (code, why string) {
	if r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || r.ParseForm() != nil || r.Header.Get("Authorization") != "" {
		return "invalid_request", "form, without Authorization"
	}
	want := map[string]string{
		"grant_type": exchange.GrantExchange, "audience": "//iam.googleapis.com/" + workloadProvider, "requested_token_type": exchange.TypeAccess,
		"subject_token_type": exchange.TypeJWT, "subject_token": "", "scope": "",
	}
	for k, v := range r.PostForm {
		expected, known := want[k]
		if !known || len(v) != 1 || v[0] == "" || expected != "" && v[0] != expected {
			return map[bool]string{true: "invalid_target", false: "invalid_request"}[k == "audience"], "parameter " + k
		}
	}
	if len(r.PostForm) != len(want) {
		return "invalid_request", "a parameter is missing"
	}
	claims, err := svidtest.Verify(w.jwks, r.PostForm.Get("subject_token"), svidtest.Expect{Audience: w.audience})
	switch {
	case err != nil:
		return "invalid_grant", err.Error()
	case len(claims.Subject) > 127:
		return "invalid_grant", "the size of mapped attribute google.subject exceeds 127 bytes"
	}
	return "", ""
}

var method = regexp.MustCompile(`^/v1/projects/-/serviceAccounts/([^/:]+):(generateAccessToken|generateIdToken)$`)

// credentials answers with google.rpc.Status where it refuses.
func (w *twin) credentials(rw http.ResponseWriter, r *http.Request) {
	refuse := func(status int, code string) {
		say(rw, status, map[string]any{"error": map[string]any{"code": status, "message": "hush-hush", "status": code}})
	}
	m := method.FindStringSubmatch(r.URL.Path)
	var body map[string]any
	switch token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); {
	case m == nil:
		refuse(http.StatusNotFound, "NOT_FOUND")
	case !bearer || !slices.Contains(w.federated, token):
		refuse(http.StatusUnauthorized, "UNAUTHENTICATED")
	case m[1] != account:
		refuse(http.StatusForbidden, "PERMISSION_DENIED")
	case r.Header.Get("Content-Type") != "application/json" || json.NewDecoder(r.Body).Decode(&body) != nil || !w.acceptable(m[2], body):
		refuse(http.StatusBadRequest, "INVALID_ARGUMENT")
	default:
		w.bodies = append(w.bodies, body)
		w.issue(rw, m[2], body)
	}
}

func (w *twin) acceptable(method string, body map[string]any) bool {
	known := []string{"delegates", "scope", "lifetime"}
	if method == "generateIdToken" {
		known = []string{"delegates", "audience", "includeEmail"}
	}
	for k := range body {
		if !slices.Contains(known, k) {
			return false
		}
	}
	if list, ok := body["delegates"].([]any); ok {
		for _, d := range list {
			if s, _ := d.(string); !strings.HasPrefix(s, "projects/-/serviceAccounts/") {
				return false
			}
		}
	}
	if method == "generateIdToken" {
		aud, _ := body["audience"].(string)
		return aud != ""
	}
	scope, _ := body["scope"].([]any)
	life, ok := seconds(body)
	return len(scope) > 0 && ok && life > 0 && (life <= 3600 || w.long && life <= 12*3600)
}

func seconds(body map[string]any) (int, bool) {
	raw, given := body["lifetime"]
	text, isText := raw.(string)
	if !given {
		return 3600, true
	}
	n, err := strconv.Atoi(strings.TrimSuffix(text, "s"))
	return n, isText && err == nil && strings.HasSuffix(text, "s")
}

func (w *twin) issue(rw http.ResponseWriter, method string, body map[string]any) {
	if method == "generateIdToken" {
		token := w.idToken
		if token == "" {
			token = idTokenFor(body["audience"].(string))
		}
		say(rw, http.StatusOK, map[string]string{"token": token})
		return
	}
	life, _ := seconds(body)
	expire := w.expire
	if expire == "" {
		expire = time.Now().Add(time.Duration(life) * time.Second).UTC().Format(time.RFC3339)
	}
	say(rw, http.StatusOK, map[string]string{"accessToken": "ya29.c.account", "expireTime": expire})
}

func idTokenFor(audience string) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: make([]byte, 32)}, nil)
	if err != nil {
		panic(err)
	}
	now := time.Now()
	text, err := jwt.Signed(signer).Claims(jwt.Claims{
		Audience: jwt.Audience{audience}, IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(time.Hour)),
	}).Serialize()
	if err != nil {
		panic(err)
	}
	return text
}

// world is a provider before its twin.
type world struct {
	*twin
	domain  *svidtest.Domain
	subject *svidtest.Subject
}

func newWorld(t *testing.T) *world {
	t.Helper()
	d := svidtest.New(t)
	return &world{twin: newTwin(d), domain: d, subject: d.Subject(id)}
}
