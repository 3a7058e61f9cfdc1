// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/egret-proxy/egret/audit"
	"github.com/egret-proxy/egret/internal/secret"
	"github.com/egret-proxy/egret/policy"
)

// HeaderListVersion dates the built-in lists below; it changes when they do.
const HeaderListVersion = "2026-11-22.2"

// plainName is a header name as the most lenient upstream may read it: case folded,
// with "_" and "-" alike (MUST H2; oauth2-proxy CVE-2025-64484).
func plainName(name string) string {
	if plain, ok := commonNames[name]; ok {
		return plain
	}
	return makePlain(name)
}

func makePlain(name string) string {
	return strings.ReplaceAll(strings.ToLower(name), "_", "-")
}

// commonNames saves making the plain names of headers that nearly every message has.
//
//nolint:gochecknoglobals // a constant table
var commonNames = func() map[string]string {
	m := map[string]string{}
	for _, name := range []string{
		"Accept", "Accept-Encoding", "Accept-Language", "Accept-Ranges", "Age", "Authorization", "Cache-Control", "Connection",
		"Content-Encoding", "Content-Language", "Content-Length", "Content-Security-Policy", "Content-Type", "Cookie", "Date", "Etag",
		"Expires", "Grpc-Accept-Encoding", "Grpc-Message", "Grpc-Status", "Grpc-Timeout", "If-Modified-Since", "If-None-Match",
		"Last-Modified", "Link", "Location", "Origin", "Pragma", "Range", "Referer", "Referrer-Policy", "Server", "Set-Cookie",
		"Strict-Transport-Security", "Te", "Trailer", "Traceparent", "Tracestate", "User-Agent", "Vary", "Via", "Www-Authenticate",
		"X-Amz-Content-Sha256", "X-Amz-Date", "X-Amzn-Requestid", "X-Amz-Request-Id", "X-Content-Type-Options", "X-Frame-Options",
		"X-Github-Api-Version", "X-Github-Request-Id", "X-Request-Id", "X-Slack-Req-Id", "X-Xss-Protection",
	} {
		m[name] = makePlain(name)
	}
	return m
}()

func set(names ...string) map[string]struct{} {
	m := make(map[string]struct{}, len(names))
	for _, n := range names {
		m[n] = struct{}{}
	}
	return m
}

// Built-in lists, as plainName writes them.
//
//nolint:gochecknoglobals // constant tables
var (
	// credentialHeaders carry a credential; the caller's own never reach a SaaS.
	credentialHeaders = set("authorization", "proxy-authorization", "cookie", "cookie2",
		"x-api-key", "api-key", "apikey", "x-apikey", "token", "x-token", "x-auth-token", "x-access-token", "x-auth-key",
		"dd-api-key", "dd-application-key", "x-vault-token", "private-token", "job-token", "deploy-token",
		"x-amz-security-token", "x-snowflake-authorization-token-type", "x-goog-api-key", "x-goog-iam-authorization-token",
		"x-rollbar-access-token", "x-shopify-access-token", "x-figma-token", "x-circleci-token", "x-pagerduty-token",
		"x-honeycomb-team", "x-postmark-server-token", "circle-token", "travis-token", "authentication", "x-authorization",
		"ocp-apim-subscription-key", "x-functions-key", "x-github-token", "x-gitlab-token", "x-session-token", "session-token", "x-session-id", "x-session-key",
		"auth", "x-auth", "auth-token", "auth-key", "access-token", "x-access-key", "access-key", "x-jwt", "jwt", "x-jwt-token", "bearer", "x-bearer-token", "x-id-token", "x-oauth-token",
		"x-secret", "x-secret-key", "x-client-secret", "x-api-secret", "x-api-token", "api-token", "x-apitoken", "x-user-token", "x-service-token",
		"x-consul-token", "x-nomad-token", "x-databricks-token", "x-sentry-token", "x-figma-access-token", "x-okta-token", "x-password")

	// routingHeaders could make an upstream act on another method, URL, identity or tenant
	// than policy decided on (MUST H3, H13, H16).
	routingHeaders = set("forwarded", "via", "x-real-ip", "client-ip", "x-client-ip", "true-client-ip", "x-cluster-client-ip",
		"x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url", "x-original-uri",
		"x-original-host", "x-host", "x-envoy-original-path", "x-envoy-external-address", "http-method-override",
		"host")

	// selectorHeaders choose an identity or a tenant (MUST H16): they come from the
	// Credential, or from a rule that names them.
	selectorHeaders = set("sudo", "x-sudo", "x-on-behalf-of", "on-behalf-of", // GitLab, Zendesk, SendGrid
		"x-goog-user-project", "x-goog-iam-authority-selector", "x-goog-authuser", // Google
		"openai-organization", "openai-project", "anthropic-organization-id", "anthropic-workspace-id",
		"stripe-account", "stripe-context",
		"x-vault-namespace", "x-vault-policy-override", "x-vault-wrap-ttl", // with the last one the answer is a token
		"as-user", "x-impersonate-user", "x-run-as", "es-security-runas-user", // Box, others, Elasticsearch
		"mscrmcallerid", "callerobjectid", "x-anchormailbox", "x-ms-client-principal", "x-ms-client-principal-id", "x-ms-client-principal-name", // Microsoft
		"x-grafana-org-id", "x-scope-orgid", "x-webauth-user", "x-webauth-groups", // Grafana, Loki, Mimir
		"remote-user", "x-remote-user", "x-remote-group", "x-remote-groups", "x-authenticated-user", "x-auth-request-user", "x-auth-request-email", // proxies
		"x-databricks-org-id", "x-snowflake-role", "x-tenant-id", "x-tenant", "x-org-id", "x-organization-id",
		"dapr-caller-app-id", "x-amzn-oidc-identity", "x-amzn-oidc-data")

	// routingPrefixes are families of both.
	routingPrefixes = []string{"x-forwarded-", "x-spiffe-", "egret-", "impersonate-", "proxy-", "x-egret-", "x-remote-extra-", "x-goog-authenticated-user-"}

	// queryCredentials are parameters that carry a credential (MUST H4).
	queryCredentials = set("token", "access-token", "api-key", "apikey", "auth-token", "private-token", "oauth-token",
		"x-api-key", "x-amz-security-token", "x-amz-signature", "x-amz-credential", "client-secret", "id-token", "refresh-token",
		"x-goog-signature", "x-goog-credential",
		"job-token", "access-key", "accesskey", "accesstoken", "authorization", "bearer", "bearer-token", "auth", "jwt", "jwt-token",
		"deploy-token", "personal-access-token", "session-token", "security-token", "subscription-key", "ocp-apim-subscription-key",
		"api-token", "apitoken", "api-secret", "access-secret", "secret-key", "client-assertion", "x-auth-token", "x-access-token", "authtoken", "awsaccesskeyid")

	// doubtfulParams carry a credential at some servers and are plain parameters at others:
	// refused unless the rule names them in allowQuery.
	doubtfulParams = set("sig", "signature", "password", "passwd", "pwd", "secret", "passphrase")

	// selectorParams are selectorHeaders in a query (MUST H16).
	selectorParams = set("sudo", "on-behalf-of", "onbehalfof", "impersonate", "impersonate-user", "impersonated-user",
		"userproject", "$userproject", "x-goog-user-project", "-stripe-account", "stripe-account", "x-vault-namespace")

	// overrideParams make a server act on another method, or read further headers, than
	// the request has (MUST H13): Rails, Laravel, Salesforce, Google, OData and others.
	overrideParams = set("-method", "--method", "-httpmethod", "$httpmethod", "$httpheaders", "http-method-override",
		"x-http-method", "x-http-method-override", "x-method-override", "method-override", "httpmethod-override", "-http-method")
)

// cleanRequest removes from an outgoing request what must not come from the caller. It
// reports what the caller itself sent as a credential, compared with ours.
func cleanRequest(h http.Header, rule *policy.Rule, ours string) (callerCredential string) {
	callerCredential = audit.CallerNone
	for name, values := range h {
		plain := plainName(name)
		_, cred := credentialHeaders[plain]
		switch {
		case cred:
			callerCredential = stronger(callerCredential, judge(values, ours))
			delete(h, name)
		case isRouting(plain) && !slices.ContainsFunc(rule.AllowHeaders, func(a string) bool { return strings.EqualFold(a, name) }):
			delete(h, name)
		}
	}
	return callerCredential
}

// cleanObserved is cleanRequest for mode observe: the caller's own credentials pass,
// what was meant for egret or could speak for it does not.
func cleanObserved(h http.Header) {
	for name := range h {
		if p := plainName(name); strings.HasPrefix(p, "proxy-") || strings.HasPrefix(p, "egret-") || strings.HasPrefix(p, "x-egret-") || p == "host" {
			delete(h, name)
		}
	}
}

func isRouting(plain string) bool {
	if _, ok := routingHeaders[plain]; ok {
		return true
	}
	if _, ok := selectorHeaders[plain]; ok {
		return true
	}
	for _, p := range routingPrefixes {
		if strings.HasPrefix(plain, p) {
			return true
		}
	}
	return false
}

// Placeholder is the constant text that applications may send where their SDK insists
// on a token. It is never accepted by a SaaS.
const Placeholder = "egret-placeholder"

// judge classifies the values of one credential header of the caller.
func judge(values []string, ours string) string {
	out := audit.CallerNone
	for _, v := range values {
		v = bareToken(v)
		switch {
		case v == "":
		case strings.Contains(v, Placeholder):
			out = stronger(out, audit.CallerPlaceholder)
		case ours != "" && secret.New(v).Fingerprint() == ours:
			out = stronger(out, audit.CallerSameAsOurs)
		default:
			out = stronger(out, audit.CallerOwn)
		}
	}
	return out
}

// bareToken cuts the scheme off a header value and takes the password of Basic.
func bareToken(v string) string {
	scheme, rest, found := strings.Cut(strings.TrimSpace(v), " ")
	if !found {
		return scheme
	}
	rest = strings.TrimSpace(rest)
	if strings.EqualFold(scheme, "basic") {
		if b, err := base64.StdEncoding.DecodeString(rest); err == nil {
			_, pw, _ := strings.Cut(string(b), ":")
			return pw
		}
	}
	return strings.TrimPrefix(rest, "token=")
}

// stronger keeps the more worrying of two findings.
func stronger(a, b string) string {
	rank := []string{audit.CallerNone, audit.CallerPlaceholder, audit.CallerOwn, audit.CallerSameAsOurs}
	if slices.Index(rank, b) > slices.Index(rank, a) {
		return b
	}
	return a
}

// queryProblem returns why a query must not go on, with the name of the first parameter
// that is against it: it carries a credential (MUST H4), overrides the method (H13), or
// chooses an identity (H16) that the rule does not name.
func queryProblem(raw string, rule *policy.Rule) (reason policy.Reason, name string) {
	eachParam(raw, func(param string) bool {
		name = plainParam(param)
		_, cred := queryCredentials[name]
		_, doubtful := doubtfulParams[name]
		_, selects := selectorParams[name]
		allowed := rule != nil && slices.Contains(rule.AllowQuery, param)
		switch {
		case cred, doubtful && !allowed:
			reason = reasonQueryCredential
		case isOverride(name):
			reason = reasonQueryOverride
		case selects && !allowed:
			reason = reasonQuerySelector
		}
		return reason == ""
	})
	if reason == "" {
		name = ""
	}
	return reason, name
}

func isOverride(plain string) bool { _, ok := overrideParams[plain]; return ok }

// eachParam yields the names of parameters until yield returns false. It reads a query as
// leniently as any server might: both & and ; separate, and names are unescaped.
func eachParam(raw string, yield func(name string) bool) {
	for raw != "" {
		var pair string
		if i := strings.IndexAny(raw, "&;"); i >= 0 {
			pair, raw = raw[:i], raw[i+1:]
		} else {
			pair, raw = raw, ""
		}
		name, _, _ := strings.Cut(pair, "=")
		if n, err := url.QueryUnescape(name); err == nil {
			name = n
		}
		if !yield(name) {
			return
		}
	}
}

// plainParam is a parameter name as the most lenient server may read it: besides case
// and "_", PHP takes "." and " " for "_", cuts an index ("token[]"), and C-like ones end
// the name at a NUL.
func plainParam(name string) string {
	name = strings.TrimSpace(name)
	if i := strings.IndexAny(name, "[\x00"); i >= 0 {
		name = name[:i]
	}
	return strings.NewReplacer(".", "-", " ", "-", "_", "-").Replace(strings.ToLower(strings.TrimSpace(name)))
}

// minReflected is the shortest injected value that is looked for in answers; shorter ones
// would be found by chance.
const minReflected = 8

// injectedValues adds to out what the credential put into the request, in every form that
// an upstream may send back: the header's value, without its scheme, and out of Basic.
func injectedValues(out []string, before, after *http.Request) []string {
	add := func(v string) {
		if len(v) >= minReflected && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	for name, values := range after.Header {
		if slices.Equal(values, before.Header[name]) || neverSecret(plainName(name)) {
			continue
		}
		for _, v := range values {
			add(bareToken(v))
			_, rest, _ := strings.Cut(v, " ")
			add(rest)
		}
	}
	if after.URL.RawQuery != before.URL.RawQuery {
		for _, pair := range strings.Split(after.URL.RawQuery, "&") {
			if _, v, _ := strings.Cut(pair, "="); !strings.Contains(before.URL.RawQuery, pair) {
				add(v)
				if raw, err := url.QueryUnescape(v); err == nil {
					add(raw)
				}
			}
		}
	}
	return out
}

// neverSecret reports headers that a credential sets and that hold none: selectors,
// versions, and what goes with a signature.
func neverSecret(plain string) bool {
	_, selects := selectorHeaders[plain]
	return selects || plain == "x-amz-date" || plain == "x-amz-content-sha256" || plain == "accept" || plain == "user-agent" || strings.HasSuffix(plain, "-version")
}

// dropReflected removes fields in which an upstream sends the injected value back (MUST
// H10), in value or name, as JSON or a URL would write it, in either case.
func dropReflected(h http.Header, injected []string) {
	for _, secret := range injected {
		value := newSpelled(secret, true)
		for name, values := range h {
			if value.in(name) || slices.ContainsFunc(values, value.in) {
				delete(h, name)
			}
		}
	}
}

// cleanResponse removes from a response what could lead the client round egret (MUST
// H17), speak for egret, or hand it a session on a credentialed route (MUST H10).
func cleanResponse(h http.Header, rule *policy.Rule, credentialed bool) {
	for name := range h {
		switch plain := plainName(name); {
		case plain == "alt-svc", strings.HasPrefix(plain, "egret-"), plain == "proxy-status", strings.HasPrefix(plain, "proxy-auth"):
			delete(h, name)
		case !credentialed || rule == nil:
		case plain == "set-cookie" && !rule.SetCookie, plain == "www-authenticate" && !rule.WWWAuth:
			delete(h, name)
		}
	}
}

// cleanTrailer filters trailers like headers (MUST H14): credentials, framing, routing
// and pseudo fields never pass behind the body.
func cleanTrailer(h http.Header) {
	for name := range h {
		plain := plainName(name)
		_, cred := credentialHeaders[plain]
		if cred || isRouting(plain) || isFraming(plain) || strings.HasPrefix(name, ":") {
			delete(h, name)
		}
	}
}

// isFraming reports fields that RFC 9110, 6.5.1 bars from trailers.
func isFraming(plain string) bool {
	switch plain {
	case "transfer-encoding", "content-length", "content-type", "content-encoding", "content-range", "trailer", "te",
		"connection", "keep-alive", "upgrade", "host", "expect", "range", "max-forwards", "cache-control", "age", "expires",
		"set-cookie", "www-authenticate", "alt-svc", "location", "vary", "retry-after", "date":
		return true
	}
	return strings.HasPrefix(plain, "if-")
}

// headerBytes is the size of a request's header as limits.headerBytes counts it: names,
// values and four bytes of separators each, with the request line.
func headerBytes(r *http.Request) int {
	n := len(r.Method) + len(r.RequestURI) + len(r.Host) + len("  HTTP/1.1\r\nHost: \r\n")
	for k, vv := range r.Header {
		for _, v := range vv {
			n += len(k) + len(v) + 4
		}
	}
	return n
}

// upstreamID finds the SaaS's own name for the request, so that both logs can be joined.
func upstreamID(h http.Header) string {
	for _, name := range []string{"X-Request-Id", "X-Slack-Req-Id", "X-Github-Request-Id", "X-Amzn-Requestid", "X-Amz-Request-Id", "Request-Id", "Cf-Ray"} {
		v := h[name]
		if len(v) == 1 && len(v[0]) <= 128 && strings.IndexFunc(v[0], func(r rune) bool { return r <= ' ' || r > '~' }) < 0 {
			return v[0]
		}
	}
	return ""
}
