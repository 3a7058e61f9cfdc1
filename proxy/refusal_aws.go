// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"encoding/xml"
	"net/http"
	"strings"
)

// AWS's SDKs show an error's code and message where they find them in their service's own
// form, and "Forbidden" or a complaint about the XML where they do not. Services that speak
// JSON keep them in a header and in members that a problem document may have besides its
// own (RFC 9457, 3.2); those that speak XML want a document of their own (Smithy,
// "AWS query protocol" and "AWS restXml protocol", operation error serialization).

// amzCode is the name of the error. SDKs decide by it what to try again, and know none
// that begins like this.
func amzCode(i ReasonInfo) string { return "egret/" + string(i.Reason) }

// amzMessage is what an SDK prints behind the code.
func amzMessage(i ReasonInfo, id string) string {
	if i.Hint == "" {
		return i.Title + " (egret, id " + id + ")"
	}
	return i.Title + ": " + i.Hint + " (egret, id " + id + ")"
}

// speaksAMZ reports a request of an AWS client, signed or not.
func speaksAMZ(h http.Header) bool {
	return h["X-Amz-Date"] != nil || h["X-Amz-Target"] != nil || h["X-Amz-Content-Sha256"] != nil || h["Amz-Sdk-Invocation-Id"] != nil
}

// amzXML is the error for a client that reads XML; nil for one that reads JSON. Those of the
// query protocol send forms. Of S3 the signature tells; where there is none, the digest that
// S3's clients send with all that they do. Other services of XML alone (Route 53, CloudFront)
// get JSON: nothing in a request tells them from the many that read that.
func amzXML(h http.Header, i ReasonInfo, status int, id string) []byte {
	fault := "Sender"
	if status >= 500 {
		fault = "Receiver"
	}
	t, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	switch {
	case h["X-Amz-Target"] != nil:
		return nil
	case strings.EqualFold(strings.TrimSpace(t), "application/x-www-form-urlencoded"):
		return xmlElement("ErrorResponse", xmlElement("Error", xmlText("Type", fault), xmlText("Code", amzCode(i)), xmlText("Message", amzMessage(i, id))), xmlText("RequestId", id))
	case forS3(h):
		return xmlElement("Error", xmlText("Code", amzCode(i)), xmlText("Message", amzMessage(i, id)), xmlText("RequestId", id))
	}
	return nil
}

// forS3 reads the service from the scope of a signature (SigV4, "Credential=…/s3/aws4_request").
func forS3(h http.Header) bool {
	if _, scope, signed := strings.Cut(h.Get("Authorization"), "Credential="); signed {
		scope, _, _ = strings.Cut(scope, ",")
		return strings.Contains(scope, "/s3/") || strings.Contains(scope, "/s3express/")
	}
	return h["X-Amz-Content-Sha256"] != nil
}

func xmlElement(name string, inner ...[]byte) []byte {
	return []byte("<" + name + ">" + string(bytes.Join(inner, nil)) + "</" + name + ">")
}

func xmlText(name, s string) []byte {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s)) // a buffer takes everything
	return xmlElement(name, b.Bytes())
}
