// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/egret-proxy/egret/policy"
)

// Headers that choose a tenant or another identity at the SaaS are the credential's
// matter: the caller's own do not arrive, in no spelling, unless the rule names them.
func TestMUST_H16_SelectorsOfTheCallerDoNotPass(t *testing.T) {
	selectors := []string{
		"Impersonate-User", "Impersonate-Group", "Sudo", "X-On-Behalf-Of", "X-Goog-User-Project", "X-Vault-Namespace",
		"OpenAI-Organization", "OpenAI-Project", "Stripe-Account", "openai_project", "X_VAULT_NAMESPACE",
		"Impersonate-Extra-Scopes", "Impersonate-Uid", "X-Goog-Iam-Authority-Selector", "Stripe-Context", "X-Vault-Wrap-TTL", "As-User",
		"MSCRMCallerID", "CallerObjectId", "X-Scope-OrgID", "X-Remote-User", "X-Remote-Extra-Scope", "es-security-runas-user", "X-Webauth-User",
	}
	w := newWorld(t, withPolicy(func(s *policy.Set) {
		named := *s.Rules[0]
		named.PathTemplate, named.AllowHeaders = "/named/**", []string{"Stripe-Account"}
		s.Rules = append(s.Rules, &named)
	}))
	for path, passes := range map[string]bool{"/plain": false, "/named/x": true} {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+echoHost+path, nil)
		for _, name := range selectors {
			r.Header[name] = []string{"another-tenant"}
		}
		resp, err := w.client("sidecar", http1).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		rep := report(t, body(t, resp))
		for name, values := range rep.Headers {
			if len(values) > 0 && values[0] == "another-tenant" && !(passes && name == "Stripe-Account") {
				t.Errorf("%s: %s arrived", path, name)
			}
		}
		if got := len(rep.Headers["Stripe-Account"]) > 0; got != passes {
			t.Errorf("%s: Stripe-Account arrived: %t, want %t", path, got, passes)
		}
	}
}

// In a query they are refused, in whatever spelling, unless the rule names them.
func TestMUST_H16_SelectorsInTheQueryAreRefused(t *testing.T) {
	w := newWorld(t, withPolicy(func(s *policy.Set) {
		named := *s.Rules[0]
		named.PathTemplate, named.AllowQuery = "/named/**", []string{"sudo"}
		s.Rules = append(s.Rules, &named)
	}))
	both(t, w, func(t *testing.T, c *http.Client) {
		for query, reason := range map[string]string{
			"sudo=root": "selector_in_query", "a=1&SUDO=root": "selector_in_query", "a=1;s%75do=root": "selector_in_query", "sudo[]=root": "selector_in_query",
			"userProject=p": "selector_in_query", "_stripe_account=acct_1": "selector_in_query",
		} {
			resp, text := w.get(c, "https://"+echoHost+"/plain?"+query)
			if p := problemOf(t, text); resp.StatusCode != 403 || p.Reason != reason || strings.Contains(text, "root") {
				t.Errorf("%s: %d %s", query, resp.StatusCode, text)
			}
		}
		if resp, _ := w.get(c, "https://"+echoHost+"/named/x?sudo=root"); resp.StatusCode != 200 {
			t.Errorf("named: %s", resp.Status)
		}
		if resp, _ := w.get(c, "https://"+echoHost+"/named/x?Sudo=root"); resp.StatusCode != 403 {
			t.Errorf("another spelling of what is named: %s", resp.Status)
		}
	})
}

// What makes a server act on another method is refused in the query as in headers.
func TestMUST_H13_TheQueryDoesNotOverrideTheMethod(t *testing.T) {
	w := newWorld(t)
	both(t, w, func(t *testing.T, c *http.Client) {
		for _, query := range []string{
			"_method=DELETE", "_METHOD=delete", "a=1&%5fmethod=PUT", "_method[]=PUT", "_HttpMethod=PATCH", "$httpMethod=DELETE", "%24httpHeaders=x",
			"X-HTTP-Method-Override=PUT", "x_http_method=PUT", "a;_method=PUT",
		} {
			resp, text := w.get(c, "https://"+echoHost+"/x?"+query)
			if p := problemOf(t, text); resp.StatusCode != 403 || p.Reason != "method_override" {
				t.Errorf("%s: %d %s", query, resp.StatusCode, text)
			}
		}
		if resp, _ := w.get(c, "https://"+echoHost+"/x?method=flickr.test&payment_method=card"); resp.StatusCode != 200 {
			t.Errorf("an innocent parameter: %s", resp.Status)
		}
	})
}

// Slack takes a token in the body: the caller's own is refused, in every shape of body.
func TestMUST_H4_H16_CredentialsInTheBodyAreRefused(t *testing.T) {
	w := newWorld(t, withPolicy(func(s *policy.Set) { s.Destinations[0].BodyCredentials = []string{"token"} }))
	const form, multi = "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"
	part := func(disposition string) string {
		return "--b\r\nContent-Disposition: form-data; " + disposition + "\r\n\r\nxoxb-hunter2\r\n--b--\r\n"
	}
	send := func(t *testing.T, c *http.Client, contentType, text string) (*http.Response, string) {
		var from io.Reader = strings.NewReader(text)
		if len(text) > 64<<10 {
			from = struct{ io.Reader }{from} // its length is not told
		}
		r := request(t, "POST", "https://"+echoHost+"/api/chat.postMessage", from)
		if contentType != "" {
			r.Header.Set("Content-Type", contentType)
		}
		resp := do(t, c, r)
		return resp, body(t, resp)
	}
	both(t, w, func(t *testing.T, c *http.Client) {
		for name, x := range map[string][2]string{
			"form": {form, "channel=C1&token=xoxb-hunter2"}, "escaped": {form, "%74oken=xoxb-hunter2"}, "case": {form, "TOKEN=xoxb-hunter2"},
			"semicolon": {form, "a=1;token=xoxb-hunter2"}, "index": {form, "token[]=xoxb-hunter2"}, "no type": {"", "token=xoxb-hunter2"},
			"text": {"text/plain", "token=xoxb-hunter2"}, "JSON": {"application/json", `{"token":"xoxb-hunter2"}`}, "JSON, deep": {"application/json", `{"a":[{"Token":"xoxb-hunter2"}]}`},
			"JSON, escaped": {"application/json", `{"tok\u0065n":"xoxb-hunter2"}`}, "broken JSON": {"application/json", `{"token":"xoxb-hunter2",}`},
			"multipart": {multi, part(`name="token"`)}, "unquoted": {multi, part(`name=token`)}, "single quotes": {multi, part(`name='token'`)},
			"extended": {multi, part(`name*=utf-8''token`)}, "spaces": {multi, part(`name = "token"`)}, "second name": {multi, part(`name="x"; name="token"`)},
			"too long": {form, "text=" + strings.Repeat("x", 64<<10) + "&token=xoxb-hunter2"}, "charset": {form + "; charset=utf-16", "x"},
			"method": {form, "_method=DELETE"},
			"XML":    {"application/xml", "<m><token>xoxb-hunter2</token></m>"}, "XML, prefix": {"text/xml", "<m><a:Token\n>xoxb-hunter2</a:Token></m>"},
			"XML, attribute": {"application/soap+xml", "<m token = 'xoxb-hunter2'/>"}, "XML, wide": {"application/xml", "\xff\xfe<\x00t\x00"},
			"YAML": {"application/yaml", "token: xoxb-hunter2"}, "MessagePack": {"application/msgpack", "\x81\xa5token\xa3xox"},
			"bytes": {"application/octet-stream", "token=xoxb-hunter2"}, "long bytes": {"application/octet-stream", strings.Repeat("x", 65<<10)},
			"long XML": {"application/xml", "<m>" + strings.Repeat("x", 65<<10) + "</m>"},
		} {
			resp, text := send(t, c, x[0], x[1])
			if p := problemOf(t, text); resp.StatusCode != 403 || p.Reason != "credential_in_body" || strings.Contains(text, "hunter2") {
				t.Errorf("%s: %d %s", name, resp.StatusCode, text)
			}
			if rec := w.recordOf(resp); strings.Contains(rec.Detail, "hunter2") {
				t.Errorf("%s: record %+v", name, rec)
			}
		}
	})
	w.untouched()
	both(t, w, func(t *testing.T, c *http.Client) {
		for name, x := range map[string][2]string{
			"form": {form, "channel=C1&text=the+token%3Dx"}, "JSON": {"application/json", `{"text":"token","url":"https://x/?a&token=1"}`},
			"multipart": {multi, part(`name="file"; filename="a.txt"`)}, "none": {"", ""}, "binary": {"image/png", strings.Repeat("token=", 20<<10)},
			"XML": {"application/xml", "<m><tokens>1</tokens></m>"}, "bytes": {"application/octet-stream", "\x00\x01\x02"},
		} {
			resp, text := send(t, c, x[0], x[1])
			if resp.StatusCode != 200 {
				t.Fatalf("%s: %d %s", name, resp.StatusCode, text)
			}
			if rep := report(t, text); rep.BodySHA256 != digest(x[1]) {
				t.Errorf("%s: %d bytes arrived", name, rep.BodyBytes)
			}
		}
	})
}
