// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package issuer_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"go.uber.org/goleak"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/credential/issuer/issuertest"
	"github.com/egret-proxy/egret/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// provider is the smallest one there can be.
type provider struct{ *issuer.Client }

func (p provider) Fetch(ctx context.Context, _ credential.Key, _ credential.Subject) (credential.Token, error) {
	a, err := p.PostForm(ctx, "https://issuer.example/token?q=hush-hush", url.Values{"secret": {"hush-hush"}}, nil)
	if err != nil {
		return credential.Token{}, err
	}
	if a.Status != http.StatusOK {
		return credential.Token{}, a.Refusal("")
	}
	o, err := a.Object()
	if err != nil {
		return credential.Token{}, err
	}
	if o.Text("token") == "" {
		return credential.Token{}, issuer.NotMinted("answer has no token")
	}
	return credential.Token{Values: map[string]secret.Secret{"token": secret.New(o.Text("token"))}, Lifetime: a.LessAge(o.Seconds("life"))}, nil
}

func twin(t *testing.T) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.Header.Get("User-Agent") != "egret" || r.Header.Get("Accept") != "application/json" ||
			r.FormValue("secret") != "hush-hush" || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
			t.Errorf("%s %v", r.Method, r.Header)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, `{"token":"t0ken","life":3600}`)
	})
}

func TestFaultMatrix(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	issuertest.Matrix{
		Twin:     twin,
		Provider: func(_ *testing.T, s *issuertest.Server) credential.Provider { return provider{issuer.New(s.Options())} },
		Lifetime: "life",
		Secrets:  []string{"t0ken"},
	}.Run(t)
}
