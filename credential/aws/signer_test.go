// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/aws/sigv4"
	"github.com/egret-proxy/egret/internal/secret"
)

func signerOf(t testing.TB, c SignerConfig) *Signer {
	t.Helper()
	s, err := NewSigner(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func ourKeys() map[string]secret.Secret {
	return map[string]secret.Secret{accessKeyID: secret.New("AKIAOURS"), secretAccessKey: secret.New(theSecret), sessionToken: secret.New(theToken)}
}

func requestTo(t testing.TB, host string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, "https://"+host+"/key", nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The host table says what is signed for, and nothing else does.
func TestScopesComeFromTheTable(t *testing.T) {
	s := signerOf(t, SignerConfig{Service: "execute-api", Region: "us-east-1", Hosts: []HostScope{
		{"*.s3.eu-central-1.amazonaws.com", "s3", "eu-central-1"}, {"logs.s3.eu-central-1.amazonaws.com", "s3", "eu-west-1"}, {"sts.eu-central-1.amazonaws.com", "sts", "eu-central-1"},
	}})
	for host, want := range map[string]string{
		"a.s3.eu-central-1.amazonaws.com": "eu-central-1/s3", "logs.s3.eu-central-1.amazonaws.com": "eu-west-1/s3", "sts.eu-central-1.amazonaws.com": "eu-central-1/sts",
		"a.b.s3.eu-central-1.amazonaws.com": "us-east-1/execute-api", "s3.eu-central-1.amazonaws.com": "us-east-1/execute-api", "x.example": "us-east-1/execute-api",
	} {
		r := requestTo(t, host)
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=x/20200101/xx-none-1/iam/aws4_request, SignedHeaders=host, Signature=00")
		if err := s.Sign(r, ourKeys()); err != nil || !strings.Contains(r.Header.Get("Authorization"), "/"+want+"/aws4_request") {
			t.Errorf("%s: %v, %s", host, err, r.Header.Get("Authorization"))
		}
	}
	only := signerOf(t, SignerConfig{Hosts: []HostScope{{"a.example", "s3", "r"}}})
	r := requestTo(t, "b.example")
	if err := only.Sign(r, ourKeys()); err == nil || r.Header.Get("Authorization") != "" || errors.Is(err, credential.ErrCallerSignature) {
		t.Errorf("a host that is not in the table: %v %v", err, r.Header)
	}
	if err := only.Check(r, "b.example"); err == nil {
		t.Error("checked")
	}
}

func TestSignersThatAreRefused(t *testing.T) {
	for want, c := range map[string]SignerConfig{
		"must be set":    {},
		"maxBody":        {Service: "s3", Region: "r", MaxBody: -1},
		"letters":        {Service: "S3", Region: "r"},
		"s3express":      {Service: "s3express", Region: "r"},
		"only once":      {Hosts: []HostScope{{"a.b", "s3", "r"}, {"a.b", "s3", "q"}}},
		"canonical name": {Hosts: []HostScope{{"A.b", "s3", "r"}}},
		`host "*."`:      {Hosts: []HostScope{{"*.", "s3", "r"}}},
		`host "c.d"`:     {Hosts: []HostScope{{"c.d", "", "r"}}},
	} {
		if _, err := NewSigner(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestTheClockThatWasLearntIsSignedWith(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := signerOf(t, SignerConfig{Service: "s3", Region: "r", Now: func() time.Time { return now }})
	for told, want := range map[string]string{"": "20260102T030405Z", "3600": "20260102T040405Z", "-60": "20260102T030305Z", "x": "20260102T030405Z"} {
		r, v := requestTo(t, "h.example"), ourKeys()
		v[clockAhead] = secret.New(told)
		if err := s.Sign(r, v); err != nil || r.Header.Get("X-Amz-Date") != want {
			t.Errorf("%q: %v, %s, want %s", told, err, r.Header.Get("X-Amz-Date"), want)
		}
	}
}

// A fault of the caller is told apart from all others, in the request and in its body.
func TestWhoseFaultItIs(t *testing.T) {
	s := signerOf(t, SignerConfig{Service: "s3", Region: "r"})
	r := requestTo(t, "h.example")
	r.Header.Set("X-Amz-Content-Sha256", "x")
	if err := s.Sign(r, ourKeys()); !errors.Is(err, credential.ErrCallerSignature) || !errors.As(err, new(*sigv4.Refusal)) {
		t.Errorf("%v", err)
	}
	if err := s.Check(r, "h.example"); !errors.Is(err, credential.ErrCallerSignature) {
		t.Errorf("%v", err)
	}
	if err := s.Sign(requestTo(t, "h.example"), nil); err == nil || errors.Is(err, credential.ErrCallerSignature) {
		t.Errorf("no keys: %v", err)
	}
	for body, callers := range map[string]bool{"no chunk\r\n": true, "": true} {
		r := requestTo(t, "h.example")
		r.Header.Set("X-Amz-Content-Sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
		r.Header.Set("X-Amz-Decoded-Content-Length", "1")
		r.Body = io.NopCloser(strings.NewReader(body))
		if err := s.Sign(r, ourKeys()); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r.Body); errors.Is(err, credential.ErrCallerSignature) != callers || err == nil {
			t.Errorf("%q: %v", body, err)
		}
	}
}

// The whole of what a Live credential does with a signer, and MUST C9 of what it prints.
func TestALiveCredentialSigns(t *testing.T) {
	s := signerOf(t, SignerConfig{Service: "s3", Region: "r"})
	in, err := credential.NewInjection(credential.InjectionConfig{Signer: s, Hosts: []string{"h.example"}})
	if err != nil {
		t.Fatal(err)
	}
	tok, err := token(sigv4.Keys{AccessKeyID: theID, SecretAccessKey: secret.New(theSecret)}, time.Hour, 0)
	if err != nil {
		t.Fatal(err)
	}
	live, err := credential.New(tok, []credential.Injection{in}, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	r := requestTo(t, "h.example")
	if err := live.Apply(r); err != nil || !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential="+theID+"/") || live.Fingerprint() != theID {
		t.Errorf("%v %v", err, r.Header)
	}
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=x/d/other/s3/aws4_request")
	if err := live.Check(r, "h.example"); !errors.Is(err, credential.ErrCallerSignature) {
		t.Errorf("%v", err)
	}
	if err := live.Check(r, "other.example"); err != nil {
		t.Errorf("a host that it does not sign for: %v", err)
	}
	for _, n := range []string{"Authorization", "X-Amz-Date", "X-Amz-Security-Token"} {
		if !strings.Contains(strings.Join(in.Headers(), " "), n) {
			t.Errorf("%s is not among the headers of the injection", n)
		}
	}
}
