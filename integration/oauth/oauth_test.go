// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package oauth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"github.com/egret-proxy/egret/credential/exchange"
	"github.com/egret-proxy/egret/identity/embedded"
)

const tokenURL = `tokenURL: "https://as.egret.test/token"`

// cases are the providers of a credential, as they stand in a policy.
func cases() map[string]string {
	return map[string]string{
		"client_secret_basic": `grant: client_credentials, ` + tokenURL + `, clientID: "basic:1 %", clientSecret: {file: secret}`,
		"client_secret_post":  `grant: client_credentials, ` + tokenURL + `, clientID: post, clientAuth: client_secret_post, clientSecret: {file: secret}`,
		"private_key_jwt": `grant: client_credentials, ` + tokenURL + `, clientID: key, clientAuth: private_key_jwt, privateKey: {file: client.key},
    keyID: k1, assertionAudience: "https://as.egret.test"`,
		"token_exchange": `grant: token_exchange, ` + tokenURL + `, clientID: workloads, clientAuth: none, subjectAudience: "https://as.egret.test",
    requestedTokenType: "urn:ietf:params:oauth:token-type:access_token"`,
		"jwt_bearer": `grant: jwt_bearer, ` + tokenURL + `, clientID: workloads, clientAuth: none, subjectAudience: "https://as.egret.test"`,
		"mtls":       `grant: client_credentials, ` + tokenURL + `, clientAuth: tls_client_auth`,
	}
}

func embeddedWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	iss, err := embedded.New(embedded.Options{TrustDomain: workload.TrustDomain()})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := iss.Listen(w.file("spiffe/agent.sock"), embedded.Entry{ID: workload})
	if err != nil {
		t.Fatal(err)
	}
	w.socket = srv.Address()
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { _ = srv.Serve(ctx) })
	t.Cleanup(func() { cancel(); done.Wait() })
	w.serveIssuer()
	return w
}

// bearer asks through egret, and returns the token that the API was shown.
func (e *egret) bearer() string {
	e.w.t.Helper()
	status, body := e.curl()
	if status != "200" || body != "served" {
		e.w.t.Fatalf("status %s: %s", status, body)
	}
	h, _ := e.w.last()
	token, ok := strings.CutPrefix(h.Get("Authorization"), "Bearer ")
	if !ok || token == "" {
		e.w.t.Fatalf("the API was shown %d headers without a token", len(h))
	}
	return token
}

func TestTokensOfARealServer(t *testing.T) {
	w := embeddedWorld(t)
	for name, provider := range cases() {
		w.sub(name, func(t *testing.T) {
			e := w.run(provider)
			defer e.Stop()
			token := e.bearer()
			if known := w.active(token); !known {
				t.Error("the issuer does not know the token")
			}
			e.Stop()
			if strings.Contains(e.Log(), token) {
				t.Error("the token is in the log")
			}
		})
	}
}

// TestCertificateBoundJWT: RFC 8705, 3. The API sees the certificate that cnf names.
func TestCertificateBoundJWT(t *testing.T) {
	w := embeddedWorld(t)
	e := w.run(cases()["mtls"] + `, resource: "https://api.egret.test/", scopes: ["items:read"]`)
	token := e.bearer()
	_, certs := w.last()
	parts := strings.Split(token, ".")
	if len(parts) != 3 || len(certs) == 0 {
		t.Fatalf("%d parts, %d certificates", len(parts), len(certs))
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Cnf map[string]string `json:"cnf"`
		Aud string            `json:"aud"`
	}
	if err := json.Unmarshal(raw, &claims); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(certs[0].Raw)
	if claims.Cnf["x5t#S256"] != base64.RawURLEncoding.EncodeToString(sum[:]) || claims.Aud != "https://api.egret.test/" || certs[0].URIs[0].String() != workload.String() {
		t.Errorf("%+v is not of the certificate of %s", claims, certs[0].URIs)
	}
}

// TestRefusals: what the real server refuses ends in 503, and the API is not asked.
func TestRefusals(t *testing.T) {
	w := embeddedWorld(t)
	w.write("wrong", []byte("wrong\n"))
	for name, provider := range map[string]string{
		"wrong secret":             strings.Replace(cases()["client_secret_basic"], "file: secret", "file: wrong", 1),
		"wrong client":             strings.Replace(cases()["client_secret_post"], "clientID: post", "clientID: poster", 1),
		"wrong audience of a JWT":  strings.Replace(cases()["private_key_jwt"], `assertionAudience: "https://as.egret.test"`, `assertionAudience: "https://elsewhere.test"`, 1),
		"wrong audience of a SVID": strings.Replace(cases()["token_exchange"], `subjectAudience: "https://as.egret.test"`, `subjectAudience: "https://elsewhere.test"`, 1),
		"wrong grant":              strings.Replace(cases()["token_exchange"], "clientID: workloads", "clientID: post", 1),
	} {
		w.sub(name, func(t *testing.T) {
			w.mu.Lock()
			w.shown = nil
			w.mu.Unlock()
			e := w.run(provider)
			defer e.Stop()
			status, body := e.curl()
			if h, _ := w.last(); status != "503" || h != nil || strings.Contains(body, "hush") {
				t.Errorf("status %s, %s; the API was asked: %t", status, body, h != nil)
			}
			e.Stop() // its log is whole
			if log := e.Log(); !strings.Contains(log, "provider_refused") || strings.Contains(log, secretText) {
				t.Errorf("%s", log)
			}
		})
	}
}

// TestTamperedSVID: the server takes the SVID as it is, and refuses it with one bit changed.
func TestTamperedSVID(t *testing.T) { tampered(t, embeddedWorld(t)) }

func tampered(t *testing.T, w *world) {
	t.Helper()
	svid, err := workloadapi.FetchJWTSVID(t.Context(), jwtsvid.Params{Audience: issuerName}, workloadapi.WithAddr(w.socket))
	if err != nil {
		t.Fatal(err)
	}
	good := svid.Marshal()
	parts := strings.Split(good, ".")
	sig := []byte(parts[2])
	sig[10] ^= 1
	if sig[10] == '`' || sig[10] == '@' || sig[10] == '[' || sig[10] == '{' || sig[10] == '.' || sig[10] == ',' {
		sig[10] = 'A'
	}
	for text, want := range map[string]int{good: 200, parts[0] + "." + parts[1] + "." + string(sig): 400, parts[0] + "." + parts[1] + ".": 400} {
		status, o := w.issuer("/token", url.Values{
			"grant_type": {exchange.GrantExchange}, "client_id": {"workloads"}, "subject_token": {text}, "subject_token_type": {exchange.TypeJWT},
		})
		if status != want || want == http.StatusBadRequest && o["error"] != "invalid_grant" {
			t.Errorf("%d, %v; want %d", status, o["error"], want)
		}
	}
}

// TestRevocation: RFC 7009. A token is ended when egret stops.
func TestRevocation(t *testing.T) {
	w := embeddedWorld(t)
	for _, name := range []string{"client_secret_basic", "private_key_jwt", "token_exchange", "mtls"} {
		w.sub(name, func(t *testing.T) {
			e := w.run(cases()[name] + `, revocationURL: "https://as.egret.test/token/revocation"`)
			token := e.bearer()
			if !w.active(token) {
				t.Fatal("the token is not active")
			}
			e.Stop()
			if w.active(token) {
				t.Error("the token lives on")
			}
		})
	}
}
