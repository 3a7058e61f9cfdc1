// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

const (
	certificateType = "CERTIFICATE"
	privateKeyType  = "PRIVATE KEY"
)

// EncodeCertificates returns the certificates as PEM, in order.
func EncodeCertificates(list ...*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, c := range list {
		_ = pem.Encode(&out, &pem.Block{Type: certificateType, Bytes: c.Raw}) // a Buffer takes all
	}
	return out.Bytes()
}

// EncodeChain returns the CA's certificate and those above it as PEM, the root last.
func (c *CA) EncodeChain() []byte { return EncodeCertificates(c.Chain()...) }

// EncodeKey returns the CA's private key as PKCS#8 PEM: for a file with mode 0600,
// and for nothing else.
func (c *CA) EncodeKey() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(c.key)
	if err != nil {
		return nil, fmt.Errorf("encode a CA key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: privateKeyType, Bytes: der}), nil
}

// DecodeCertificates reads every certificate of a PEM text, in order. Blocks of other
// types are skipped. No certificate, or one that does not parse, is an error.
func DecodeCertificates(text []byte) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	for _, der := range certificateBlocks(text) {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(list)+1, err)
		}
		list = append(list, cert)
	}
	if len(list) == 0 {
		return nil, errors.New("no PEM block of type CERTIFICATE")
	}
	return list, nil
}

// DecodeCA joins a chain (the CA's certificate first, then those above it) with its
// key (PKCS#8), both PEM. It checks that they belong together and that each
// certificate is signed by the next.
func DecodeCA(chain, key []byte) (*CA, error) {
	list, err := DecodeCertificates(chain)
	if err != nil {
		return nil, err
	}
	signer, err := decodeKey(key)
	if err != nil {
		return nil, err
	}
	if !samePublicKey(signer.Public(), list[0].PublicKey) {
		return nil, errors.New("the key does not belong to the chain's first certificate (write the intermediate first, the root last)")
	}
	if !list[0].IsCA {
		return nil, fmt.Errorf("the chain's first certificate, %q, is not a CA", list[0].Subject)
	}
	for i, cert := range list[:len(list)-1] {
		if err := cert.CheckSignatureFrom(list[i+1]); err != nil {
			return nil, fmt.Errorf("certificate %d of the chain is not signed by certificate %d: %w", i+1, i+2, err)
		}
	}
	return &CA{cert: list[0], key: signer, above: list[1:]}, nil
}

func decodeKey(text []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != privateKeyType {
			continue
		}
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, errors.New("the private key is not valid PKCS#8") // the cause may quote key bytes
		}
		if signer, ok := key.(crypto.Signer); ok {
			return signer, nil
		}
		return nil, fmt.Errorf("a private key of type %T cannot sign", key)
	}
	return nil, errors.New(`no PEM block of type "PRIVATE KEY" (convert with: openssl pkcs8 -topk8 -nocrypt)`)
}

func samePublicKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// selfIssued reports whether the certificate is a root: subject and issuer are one.
func selfIssued(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, c.RawIssuer) }

// certificateBlocks returns the DER of each CERTIFICATE block, unparsed.
func certificateBlocks(text []byte) [][]byte {
	var list [][]byte
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == certificateType {
			list = append(list, block.Bytes)
		}
	}
	return list
}
