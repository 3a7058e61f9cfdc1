// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package sigv4

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// SignX509 signs r as IAM Roles Anywhere wants it ("Signing process" in its User Guide):
// with the key of a certificate in place of a secret that both sides hold. body is what
// r.Body will yield. The certificate's key is ECDSA or RSA.
func SignX509(r *http.Request, body []byte, cert tls.Certificate, o X509Options) error {
	leaf, err := leafOf(cert)
	if err != nil {
		return err
	}
	key, ok := cert.PrivateKey.(crypto.Signer)
	if !ok {
		return errors.New("sigv4: the certificate's key cannot sign")
	}
	algorithm, err := x509Algorithm(key)
	if err != nil {
		return err
	}
	stamp := o.Time.UTC().Format(timeFormat)
	r.Header["X-Amz-Date"] = []string{stamp}
	r.Header["X-Amz-X509"] = []string{base64.StdEncoding.EncodeToString(cert.Certificate[0])}
	if chain := chainOf(cert); chain != "" {
		r.Header["X-Amz-X509-Chain"] = []string{chain}
	}
	hash := sha256.Sum256(body)
	creq, signed, err := canonicalRequest(r, canonicalOptions{double: true, payload: hex.EncodeToString(hash[:]), pick: mustSign})
	if err != nil {
		return err
	}
	scope := stamp[:len(dateFormat)] + "/" + o.Region + "/" + o.Service + "/" + terminal
	sum := sha256.Sum256(creq)
	text := algorithm + "\n" + stamp + "\n" + scope + "\n" + hex.EncodeToString(sum[:])
	digest := sha256.Sum256([]byte(text))
	sig, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return errors.New("sigv4: the certificate's key did not sign")
	}
	r.Header["Authorization"] = []string{algorithm + " Credential=" + leaf.SerialNumber.String() + "/" + scope +
		", SignedHeaders=" + signed + ", Signature=" + hex.EncodeToString(sig)}
	return nil
}

// X509Options of one call.
type X509Options struct {
	Scope
	Time time.Time // as AWS' clock has it
}

func leafOf(cert tls.Certificate) (*x509.Certificate, error) {
	if cert.Leaf != nil {
		return cert.Leaf, nil
	}
	if len(cert.Certificate) == 0 {
		return nil, errors.New("sigv4: there is no certificate")
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return nil, errors.New("sigv4: the certificate cannot be read")
	}
	return leaf, nil
}

func x509Algorithm(key crypto.Signer) (string, error) {
	switch k := key.Public().(type) {
	case *ecdsa.PublicKey:
		return "AWS4-X509-ECDSA-SHA256", nil
	case *rsa.PublicKey:
		return "AWS4-X509-RSA-SHA256", nil
	default:
		return "", fmt.Errorf("sigv4: a certificate with a key of type %T cannot be used: must be ECDSA or RSA", k)
	}
}

// chainOf joins the intermediates; the trust anchor is not among them.
func chainOf(cert tls.Certificate) string {
	if len(cert.Certificate) < 2 {
		return ""
	}
	out := make([]string, 0, len(cert.Certificate)-1)
	for _, der := range cert.Certificate[1:] {
		out = append(out, base64.StdEncoding.EncodeToString(der))
	}
	return strings.Join(out, ",")
}
