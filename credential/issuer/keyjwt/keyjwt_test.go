// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package keyjwt_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/egret-proxy/egret/credential/issuer/keyjwt"
	"github.com/egret-proxy/egret/internal/secret"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func pkcs8(k any) string {
	return block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(k)))
}

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func TestEveryFormAndAlgorithm(t *testing.T) {
	r, e := must(rsa.GenerateKey(rand.Reader, 2048)), must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	jwk := func(k any) string { return string(must(json.Marshal(jose.JSONWebKey{Key: k, KeyID: "own"}))) }
	for name, c := range map[string]struct {
		text   string
		public crypto.PublicKey
		kid    string
		algs   []string
	}{
		"PKCS #8 RSA": {pkcs8(r), r.Public(), "", []string{"", "RS256", "PS256"}},
		"PKCS #1":     {block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(r)), r.Public(), "", []string{"", "RS256", "PS256"}},
		"PKCS #8 EC":  {pkcs8(e), e.Public(), "", []string{"", "ES256"}},
		"SEC 1":       {block("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(e))), e.Public(), "", []string{"", "ES256"}},
		"JWK RSA":     {jwk(r), r.Public(), "own", []string{"", "RS256", "PS256"}},
		"JWK EC":      {" \n" + jwk(e), e.Public(), "own", []string{"", "ES256"}},
	} {
		k, err := keyjwt.Parse(secret.New(c.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, alg := range c.algs {
			text, err := k.Sign(keyjwt.Header{Algorithm: alg}, map[string]any{"iss": "x"})
			if err != nil {
				t.Errorf("%s %s: %v", name, alg, err)
				continue
			}
			j := must(jose.ParseSignedCompact(text.Reveal(), []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.ES256}))
			h := j.Signatures[0].Header
			if _, err := j.Verify(c.public); err != nil || h.KeyID != c.kid || alg != "" && h.Algorithm != alg {
				t.Errorf("%s: %+v, %v", name, h, err)
			}
		}
		named := must(k.Sign(keyjwt.Header{ID: "mine"}, nil))
		if j := must(jose.ParseSignedCompact(named.Reveal(), []jose.SignatureAlgorithm{jose.RS256, jose.ES256})); j.Signatures[0].Header.KeyID != "mine" {
			t.Errorf("%s: kid %q", name, j.Signatures[0].Header.KeyID)
		}
		for _, alg := range []string{"HS256", "none", "RS512", map[bool]string{true: "RS256", false: "ES256"}[len(c.algs) == 2]} {
			if _, err := k.Sign(keyjwt.Header{Algorithm: alg}, nil); err == nil {
				t.Errorf("%s signs by %s", name, alg)
			}
		}
	}
}

func TestMUST_C9_KeysThatAreNoneAreNotQuoted(t *testing.T) {
	small := must(rsa.GenerateKey(rand.Reader, 1024)) //nolint:gosec // what is refused
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	curve := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	for name, text := range map[string]string{
		"empty": "", "text": "hush", "PEM of hush": block("PRIVATE KEY", []byte("hush")), "public": block("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(small.Public()))),
		"small": pkcs8(small), "Ed25519": pkcs8(ed), "P-384": pkcs8(curve), "encrypted": block("ENCRYPTED PRIVATE KEY", []byte("hush")),
		"JSON": `{"hush":1}`, "broken": `{"hush`, "public JWK": string(must(json.Marshal(jose.JSONWebKey{Key: curve.Public()}))),
		"symmetric": `{"kty":"oct","k":"aHVzaA"}`, "RSA of hush": block("RSA PRIVATE KEY", []byte("hush")), "EC of hush": block("EC PRIVATE KEY", []byte("hush")),
	} {
		if _, err := keyjwt.Parse(secret.New(text)); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", name, err)
		}
	}
	k := must(keyjwt.Parse(secret.New(pkcs8(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))))))
	if out := fmt.Sprintf("%v %+v %#v %s", k, k, k, struct{ K keyjwt.Key }{k}); strings.Contains(out, "PrivateKey") || strings.Count(out, secret.Redacted) != 4 {
		t.Error(out)
	}
}

func TestIDsDiffer(t *testing.T) {
	if a, b := keyjwt.NewID(), keyjwt.NewID(); a == b || len(a) != 22 {
		t.Errorf("%q, %q", a, b)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(pkcs8(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))))
	f.Add(`{"kty":"EC"}`)
	f.Fuzz(func(t *testing.T, text string) {
		k, err := keyjwt.Parse(secret.New(text))
		if err != nil {
			return
		}
		if _, err := k.Sign(keyjwt.Header{}, map[string]any{"a": 1}); err != nil {
			t.Fatalf("a key that was taken cannot sign: %v", err)
		}
	})
}
