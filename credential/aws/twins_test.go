// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"

	"github.com/egret-proxy/egret/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	roleARN    = "arn:aws:iam::123456789012:role/reports"
	anchorARN  = "arn:aws:rolesanywhere:eu-central-1:123456789012:trust-anchor/3d5a2c1e-0000-4000-8000-000000000001"
	profileARN = "arn:aws:rolesanywhere:eu-central-1:123456789012:profile/3d5a2c1e-0000-4000-8000-000000000002"
	theSecret  = "hush-hush-secret-access-key"
	theToken   = "hush-hush-session-token"
	theID      = "ASIAEXAMPLE"
)

var reports = spiffeid.RequireFromString("spiffe://acme.example/ns/data/sa/reports")

// subject is a workload with an X.509-SVID of the test's own CA, and a JWT-SVID that only
// its shape makes one: who verifies it is in integration/aws.
type subject struct {
	cert  tls.Certificate
	asked []string
	err   error
}

func (s *subject) JWTSVID(_ context.Context, audience string) (secret.Secret, time.Time, error) {
	s.asked = append(s.asked, audience)
	enc := base64.RawURLEncoding.EncodeToString
	claims := fmt.Sprintf(`{"sub":%q,"aud":[%q],"exp":%d,"iat":%d}`, reports.String(), audience, time.Now().Add(5*time.Minute).Unix(), time.Now().Unix())
	jwt := enc([]byte(`{"alg":"ES256","kid":"k"}`)) + "." + enc([]byte(claims)) + "." + enc([]byte("hush-hush-signature"))
	return secret.New(jwt), time.Now().Add(5 * time.Minute), s.err
}

func (s *subject) X509SVID(context.Context) (tls.Certificate, error) { return s.cert, s.err }

// stsTwin refuses what STS refuses of the form of a call.
type stsTwin struct{ last atomic.Pointer[url.Values] }

func (s *stsTwin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.ParseForm() != nil || r.Header.Get("Authorization") != "" || len(r.URL.RawQuery) > 0 {
		stsError(w, 400, "MalformedInput")
		return
	}
	f := r.PostForm
	s.last.Store(&f)
	name := f.Get("RoleSessionName")
	switch {
	case f.Get("Action") != "AssumeRoleWithWebIdentity" || f.Get("Version") != "2011-06-15":
		stsError(w, 400, "InvalidAction")
	case f.Get("RoleArn") != roleARN:
		stsError(w, 403, "AccessDenied")
	case len(name) < 2 || len(name) > 64 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+=,.@-") != "":
		stsError(w, 400, "ValidationError")
	case len(strings.Split(f.Get("WebIdentityToken"), ".")) != 3:
		stsError(w, 400, "InvalidIdentityToken")
	default:
		w.Header().Set("Content-Type", "text/xml")
		_, _ = io.WriteString(w, assumedXML(time.Now().Add(time.Hour)))
	}
}

func stsError(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>`+code+`</Code><Message>hush-hush</Message></Error><RequestId>1</RequestId></ErrorResponse>`)
}

func assumedXML(end time.Time) string {
	text, _ := xml.Marshal(struct {
		XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ AssumeRoleWithWebIdentityResponse"`
		ID      string   `xml:"AssumeRoleWithWebIdentityResult>Credentials>AccessKeyId"`
		Secret  string   `xml:"AssumeRoleWithWebIdentityResult>Credentials>SecretAccessKey"`
		Token   string   `xml:"AssumeRoleWithWebIdentityResult>Credentials>SessionToken"`
		End     string   `xml:"AssumeRoleWithWebIdentityResult>Credentials>Expiration"`
		Subject string   `xml:"AssumeRoleWithWebIdentityResult>SubjectFromWebIdentityToken"`
	}{ID: theID, Secret: theSecret, Token: theToken, End: end.UTC().Format(time.RFC3339), Subject: reports.String()})
	return string(text)
}

// anchor is a CA that Roles Anywhere trusts.
type anchor struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAnchor(t testing.TB) *anchor {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "acme"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &anchor{cert, key}
}

// svid issues an X.509-SVID, through an intermediate where deep.
func (a *anchor) svid(t testing.TB, key crypto.Signer, deep bool) tls.Certificate {
	t.Helper()
	id, _ := url.Parse(reports.String())
	leaf := &x509.Certificate{SerialNumber: new(big.Int).Lsh(big.NewInt(77), 90), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		URIs: []*url.URL{id}, KeyUsage: x509.KeyUsageDigitalSignature}
	by, signer, chain := a.cert, crypto.Signer(a.key), [][]byte(nil)
	if deep {
		mid := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "mid"}, IsCA: true, BasicConstraintsValid: true,
			NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, KeyUsage: x509.KeyUsageCertSign}
		k, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		der, err := x509.CreateCertificate(rand.Reader, mid, by, k.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		by, _ = x509.ParseCertificate(der)
		signer, chain = k, [][]byte{der}
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, by, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: append([][]byte{der}, chain...), PrivateKey: key}
}

// anywhereTwin refuses what Roles Anywhere refuses: it checks the chain, the clock and
// the signature, from the request as it arrived.
type anywhereTwin struct {
	anchor *anchor
	ahead  atomic.Int64 // its clock before ours
	last   atomic.Pointer[string]
	calls  atomic.Int64
}

func (s *anywhereTwin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.calls.Add(1)
	now := time.Now().Add(time.Duration(s.ahead.Load()))
	w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
	w.Header().Set("Content-Type", "application/json")
	body, _ := io.ReadAll(r.Body)
	text := string(body)
	s.last.Store(&text)
	if err := s.verify(r, body, now); err != nil {
		w.Header().Set("X-Amzn-Errortype", "AccessDeniedException:http://internal.amazon.com/")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"message":"hush-hush"}`)
		return
	}
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(map[string]any{"subjectArn": "x", "credentialSet": []any{map[string]any{
		"roleArn": roleARN, "credentials": map[string]string{
			"accessKeyId": theID, "secretAccessKey": theSecret, "sessionToken": theToken, "expiration": now.Add(time.Hour).UTC().Format(time.RFC3339),
		}}}})
}

func (s *anywhereTwin) verify(r *http.Request, body []byte, now time.Time) error {
	der, err := base64.StdEncoding.DecodeString(r.Header.Get("X-Amz-X509"))
	if err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	roots, mids := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(s.anchor.cert)
	for part := range strings.SplitSeq(r.Header.Get("X-Amz-X509-Chain"), ",") {
		if b, err := base64.StdEncoding.DecodeString(part); err == nil && len(b) > 0 {
			c, err := x509.ParseCertificate(b)
			if err != nil {
				return err
			}
			mids.AddCert(c)
		}
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: mids, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return err
	}
	stamp := r.Header.Get("X-Amz-Date")
	at, err := time.Parse("20060102T150405Z", stamp)
	if err != nil || now.Sub(at).Abs() > 5*time.Minute {
		return errors.New("clock")
	}
	q := r.URL.Query()
	if r.URL.Path != "/sessions" || q.Get("trustAnchorArn") != anchorARN || q.Get("profileArn") != profileARN || q.Get("roleArn") != roleARN {
		return errors.New("arguments")
	}
	return s.signature(r, body, leaf, stamp)
}

func (s *anywhereTwin) signature(r *http.Request, body []byte, leaf *x509.Certificate, stamp string) error {
	algorithm, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	var names []string
	var sig []byte
	scope := stamp[:8] + "/eu-central-1/rolesanywhere/aws4_request"
	for part := range strings.SplitSeq(rest, ", ") {
		k, v, _ := strings.Cut(part, "=")
		switch k {
		case "Credential":
			if v != leaf.SerialNumber.String()+"/"+scope {
				return errors.New("scope")
			}
		case "SignedHeaders":
			names = strings.Split(v, ";")
		case "Signature":
			sig, _ = hex.DecodeString(v)
		}
	}
	var b strings.Builder
	b.WriteString("POST\n/sessions\n" + strings.ReplaceAll(r.URL.Query().Encode(), "+", "%20") + "\n")
	for _, n := range names {
		v := r.Header.Get(n)
		if n == "host" {
			v = r.Host
		}
		b.WriteString(n + ":" + v + "\n")
	}
	for _, must := range []string{"host", "x-amz-date", "x-amz-x509"} {
		if !slices.Contains(names, must) {
			return errors.New("unsigned " + must)
		}
	}
	hash := sha256.Sum256(body)
	b.WriteString("\n" + strings.Join(names, ";") + "\n" + hex.EncodeToString(hash[:]))
	sum := sha256.Sum256([]byte(b.String()))
	digest := sha256.Sum256([]byte(algorithm + "\n" + stamp + "\n" + scope + "\n" + hex.EncodeToString(sum[:])))
	switch key := leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if algorithm == "AWS4-X509-ECDSA-SHA256" && ecdsa.VerifyASN1(key, digest[:], sig) {
			return nil
		}
	case *rsa.PublicKey:
		if algorithm == "AWS4-X509-RSA-SHA256" {
			return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], sig)
		}
	}
	return errors.New("signature")
}
