// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package saas

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc"

	"github.com/egret-proxy/egret/internal/secret"
)

// EchoConfig configures an Echo twin.
type EchoConfig struct {
	Tokens Tokens // nil: everything is accepted, so that a test can see what arrives without a credential
}

// Echo is an origin that tells what arrived: the twin for tests of the wire. Besides
// its report at any path it has endpoints for every shape of HTTP exchange:
//
//	/sse?n=3            server-sent events, flushed one by one
//	/ws                 WebSocket echo
//	/chunked?n=3        chunks, flushed one by one
//	/trailers           answers with a trailer Echo-Digest, the digest of the request body
//	/hints              103 Early Hints, then the report
//	/early              413 before the body is read
//	/bytes/{n}          n bytes of Pattern
//	/slow/{duration}    waits before the response header
//	/truncate           breaks off in the middle of the body
//	/status/{code}      that status
//	/redirect?to=URL    302
//	/cookie, /challenge Set-Cookie; 401 with WWW-Authenticate
//	/reflect            sends the credential it was given back in a header and in the body
//
// and gRPC: grpc.health.v1.Health, grpc.testing.TestService and server reflection.
type Echo struct {
	faults
	cfg    EchoConfig
	routes *http.ServeMux
	grpc   *grpc.Server

	mu      sync.Mutex
	reports []EchoReport
}

// EchoReport is what one request looked like when it arrived.
type EchoReport struct {
	Method      string              `json:"method"`
	Path        string              `json:"path"`            // as it was encoded
	Query       string              `json:"query,omitempty"` // values of credential parameters are fingerprints
	Host        string              `json:"host"`
	Proto       string              `json:"proto"` // HTTP/1.1 or HTTP/2.0
	Headers     map[string][]string `json:"headers"`
	Trailers    map[string][]string `json:"trailers,omitempty"`
	Fingerprint string              `json:"fingerprint,omitempty"` // of the Bearer token
	BodyBytes   int64               `json:"body_bytes"`
	BodySHA256  string              `json:"body_sha256"`
	Encoding    []string            `json:"transfer_encoding,omitempty"`
	Length      int64               `json:"content_length"` // -1 where none was declared
}

// NewEcho returns the twin.
func NewEcho(cfg EchoConfig) *Echo {
	e := &Echo{cfg: cfg, routes: http.NewServeMux()}
	e.grpc = newEchoGRPC(cfg.Tokens)
	for pattern, h := range map[string]http.HandlerFunc{
		"/":                e.anything,
		"/sse":             e.sse,
		"/ws":              e.websocket,
		"/chunked":         e.chunked,
		"/trailers":        e.trailers,
		"/hints":           e.hints,
		"/early":           e.early,
		"/bytes/{n}":       e.bytes,
		"/slow/{duration}": e.slow,
		"/truncate":        e.truncate,
		"/status/{code}":   e.status,
		"/redirect":        e.redirect,
		"/cookie":          e.cookie,
		"/challenge":       e.challenge,
		"/reflect":         e.reflect,
	} {
		e.routes.HandleFunc(pattern, h)
	}
	return e
}

// Reports returns what arrived so far at every endpoint but gRPC, oldest first.
func (e *Echo) Reports() []EchoReport {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.reports)
}

// ServeHTTP implements http.Handler. gRPC goes through grpc-go's own handler.
func (e *Echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if e.down(w) {
		return
	}
	if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		e.grpc.ServeHTTP(w, r)
		return
	}
	if e.takeLimit(w) {
		http.Error(w, "too many requests", http.StatusTooManyRequests)
		return
	}
	if !authorized(e.cfg.Tokens, r.Header.Get("Authorization")) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="echo", error="invalid_token"`)
		http.Error(w, "a valid bearer token is required", http.StatusUnauthorized)
		return
	}
	e.route(w, r)
}

// route goes round the mux's redirect to a cleaned path: an origin for tests must show
// the path that arrived.
func (e *Echo) route(w http.ResponseWriter, r *http.Request) {
	if path.Clean(r.URL.Path) != r.URL.Path {
		e.anything(w, r)
		return
	}
	e.routes.ServeHTTP(w, r)
}

// authorized reports whether the Authorization header holds a live Bearer token.
func authorized(tokens Tokens, authorization string) bool {
	if tokens == nil {
		return true
	}
	_, state := tokens.Valid(bearer(authorization))
	return state == TokenLive
}

// report reads the body and describes the request. It is kept for Reports.
func (e *Echo) report(r *http.Request) EchoReport {
	digest := sha256.New()
	n, _ := io.Copy(digest, r.Body) // a body that breaks off is described as far as it came
	rep := describe(r)
	rep.BodyBytes, rep.BodySHA256 = n, hex.EncodeToString(digest.Sum(nil))
	if len(r.Trailer) > 0 {
		rep.Trailers = fingerprintHeaders(r.Trailer)
	}
	e.keep(rep)
	return rep
}

func (e *Echo) keep(rep EchoReport) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reports = append(e.reports, rep)
}

// describe tells everything but the body.
func describe(r *http.Request) EchoReport {
	return EchoReport{
		Method: r.Method, Path: rawPath(r), Query: fingerprintQuery(r.URL.RawQuery),
		Host: r.Host, Proto: r.Proto, Headers: fingerprintHeaders(r.Header),
		Fingerprint: secret.New(bearer(r.Header.Get("Authorization"))).Fingerprint(),
		Encoding:    r.TransferEncoding, Length: r.ContentLength,
	}
}

// rawPath returns the path bytes of the request line.
func rawPath(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	return path
}

// credentialName reports whether a header or query parameter carries a credential in
// its value. Underscores count as dashes, since some servers fold them.
func credentialName(name string) bool {
	switch strings.ReplaceAll(strings.ToLower(name), "_", "-") {
	case "authorization", "proxy-authorization", "cookie", "token", "x-api-key", "api-key", "apikey", "key",
		"x-auth-token", "private-token", "x-vault-token", "dd-api-key", "dd-application-key",
		"x-amz-security-token", "access-token":
		return true
	}
	return false
}

// fingerprintHeaders copies h with the values of credential headers as fingerprints;
// an authentication scheme stays readable.
func fingerprintHeaders(h http.Header) map[string][]string {
	out := make(map[string][]string, len(h))
	for name, values := range h {
		for _, v := range values {
			if credentialName(name) {
				v = fingerprintValue(v)
			}
			out[name] = append(out[name], v)
		}
	}
	return out
}

func fingerprintValue(v string) string {
	if scheme, rest, ok := strings.Cut(v, " "); ok {
		return scheme + " " + secret.New(rest).Fingerprint()
	}
	return secret.New(v).Fingerprint()
}

// fingerprintQuery replaces the values of credential parameters and leaves every other
// byte as it is.
func fingerprintQuery(raw string) string {
	parts := strings.Split(raw, "&")
	for i, p := range parts {
		if name, value, ok := strings.Cut(p, "="); ok && credentialName(name) {
			parts[i] = name + "=" + secret.New(value).Fingerprint()
		}
	}
	return strings.Join(parts, "&")
}
