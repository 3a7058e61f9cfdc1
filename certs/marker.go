// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"strings"
)

// marker is the text by which a CA certificate of egret is recognised anywhere, by
// programs (IsOurs) and by people who look at a trust store.
//
// It is carried in the extension "comment" (2.16.840.1.113730.1.13), not critical,
// which every tool shows and none acts upon. An extension under the UUID arc
// 2.25 is no choice: Go refuses certificates with an OID component over 2^31.
const marker = "egret interception CA: trust it for clients of egret only, never for egret's upstreams"

func markerOID() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 16, 840, 1, 113730, 1, 13} }

func markerExtension() pkix.Extension {
	value, err := asn1.MarshalWithParams(marker, "ia5")
	if err != nil {
		panic("certs: the marker is not IA5: " + err.Error()) // a constant of this file
	}
	return pkix.Extension{Id: markerOID(), Value: value}
}

// IsOurs reports whether cert is an interception CA: it carries egret's marker, or it
// has the key of one of the known ones. The second catches an intermediate that a
// company's own CA signed, without our marker.
func IsOurs(cert *x509.Certificate, known ...*x509.Certificate) bool {
	return hasMarker(cert) || slices.ContainsFunc(known, func(k *x509.Certificate) bool {
		return bytes.Equal(k.RawSubjectPublicKeyInfo, cert.RawSubjectPublicKeyInfo)
	})
}

func hasMarker(cert *x509.Certificate) bool {
	return slices.ContainsFunc(cert.Extensions, func(e pkix.Extension) bool {
		var text string
		_, err := asn1.UnmarshalWithParams(e.Value, &text, "ia5")
		return err == nil && e.Id.Equal(markerOID()) && strings.HasPrefix(text, "egret interception CA")
	})
}
