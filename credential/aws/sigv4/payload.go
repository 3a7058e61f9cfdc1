// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package sigv4

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// Values of X-Amz-Content-Sha256 that are no hash.
const (
	unsignedPayload         = "UNSIGNED-PAYLOAD"
	streamingUnsigned       = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
	streamingSigned         = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	streamingSignedTrailer  = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	streamingEvents         = "STREAMING-AWS4-HMAC-SHA256-EVENTS"
	streamingAsymmetric     = "STREAMING-AWS4-ECDSA-P256-SHA256-"
	contentSHA256           = "X-Amz-Content-Sha256"
	decodedContentLength    = "X-Amz-Decoded-Content-Length"
	eventStreamContentType  = "application/vnd.amazon.eventstream"
	maxDecodedContentLength = 1 << 50
)

// payload is how the body of one request is signed for.
type payload struct {
	hash    string // what stands for it in the canonical request
	resign  bool   // its chunks carry signatures of their own
	trailer bool
	length  int64 // decoded, with resign
}

// payloadOf reads how the sender has prepared the body. It reads the body itself only
// where the sender does not say and the service wants to know.
func payloadOf(r *http.Request, o Options) (payload, error) {
	mode, err := declared(r.Header)
	switch {
	case err != nil:
		return payload{}, err
	case mode == "":
		return undeclared(r, o)
	}
	p, err := modeOf(mode, o.Scope)
	if err != nil || !p.resign {
		return p, err
	}
	p.length, err = decodedLength(r)
	return p, err
}

// declared returns the one value of X-Amz-Content-Sha256, "" for none.
func declared(h http.Header) (string, error) {
	var mode string
	for k, values := range h {
		if !strings.EqualFold(strings.ReplaceAll(k, "_", "-"), contentSHA256) {
			continue
		}
		if k != contentSHA256 || len(values) != 1 || values[0] == "" {
			return "", refuse("%s must be sent once, and not be empty", contentSHA256)
		}
		mode = values[0]
	}
	if mode == "" && strings.HasPrefix(strings.ToLower(h.Get("Content-Type")), eventStreamContentType) {
		mode = streamingEvents
	}
	return mode, nil
}

// modeOf says what to do about a value of X-Amz-Content-Sha256.
func modeOf(mode string, s Scope) (payload, error) {
	switch {
	case isHash(mode), mode == unsignedPayload:
		return payload{hash: mode}, nil
	case strings.HasPrefix(mode, streamingAsymmetric):
		return payload{}, refuse("body is signed with SigV4A, which cannot be signed anew: let the client use SigV4")
	case mode == streamingEvents:
		return payload{}, refuse("body is a stream of signed events, which cannot be signed anew: use an operation without an event stream in the request")
	case !s.s3():
		return payload{}, refuse("%s of this kind is known to S3 only, and the host is configured for %s", contentSHA256, s)
	case mode == streamingUnsigned:
		return payload{hash: mode}, nil
	case mode == streamingSigned, mode == streamingSignedTrailer:
		return payload{hash: mode, resign: true, trailer: mode == streamingSignedTrailer}, nil
	}
	return payload{}, refuse("%s must be a SHA-256 in lower-case hex or a mode that is documented", contentSHA256)
}

func isHash(s string) bool {
	return len(s) == 2*sha256.Size && strings.Trim(s, "0123456789abcdef") == ""
}

func decodedLength(r *http.Request) (int64, error) {
	n, err := strconv.ParseUint(r.Header.Get(decodedContentLength), 10, 63)
	if err != nil || n > maxDecodedContentLength || len(r.Header[decodedContentLength]) != 1 {
		return 0, refuse("%s must be sent once with a body of signed chunks: the number of bytes without the framing", decodedContentLength)
	}
	if r.Body == nil || r.Body == http.NoBody {
		return 0, refuse("a body of signed chunks must not be empty: it has at least the last chunk")
	}
	return int64(n), nil
}

// undeclared is for senders that are no SDK, and for all services but S3, whose SDKs
// hash the body and do not say so.
func undeclared(r *http.Request, o Options) (payload, error) {
	empty := r.Body == nil || r.Body == http.NoBody
	switch {
	case o.s3() && empty:
		r.Header[contentSHA256] = []string{emptyHash} // S3 wants the header in any case
	case o.s3():
		if r.URL.Scheme != "https" {
			return payload{}, fmt.Errorf("sigv4: a body that is not signed goes over https only")
		}
		r.Header[contentSHA256] = []string{unsignedPayload}
	case empty:
		return payload{hash: emptyHash}, nil
	default:
		hash, err := buffer(r, o.MaxBody)
		return payload{hash: hash}, err
	}
	return payload{hash: r.Header[contentSHA256][0]}, nil
}

// buffer reads a body of at most limit bytes, puts it back and returns its hash.
func buffer(r *http.Request, limit int64) (string, error) {
	if r.ContentLength > limit {
		return "", tooLarge(limit)
	}
	size := max(r.ContentLength, 0) + bytes.MinRead
	b := bytes.NewBuffer(make([]byte, 0, min(size, 64<<10))) // a length is a promise, not a fact
	_, err := b.ReadFrom(io.LimitReader(r.Body, limit+1))
	_ = r.Body.Close()
	switch {
	case err != nil:
		return "", fmt.Errorf("sigv4: read the body to hash it: %w", err)
	case int64(b.Len()) > limit:
		return "", tooLarge(limit)
	}
	sum := sha256.Sum256(b.Bytes())
	r.ContentLength, r.TransferEncoding, r.Trailer = int64(b.Len()), nil, nil
	r.Body = io.NopCloser(bytes.NewReader(b.Bytes()))
	if b.Len() == 0 {
		r.Body = http.NoBody
	}
	return hex.EncodeToString(sum[:]), nil
}

func tooLarge(limit int64) error {
	return refuse("body is larger than %d bytes and comes without its hash: send %s, or let the operator raise maxBody", limit, contentSHA256)
}
