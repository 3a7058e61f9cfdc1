// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package minting

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func check(host, method, path string, allowed ...string) Finding {
	return Builtin().At([]string{host}).Check(Call{Host: host, Method: method, Path: path, Allowed: allowed})
}

func TestMUST_H11_CallsThatMintAreKnown(t *testing.T) {
	for call, id := range map[string]string{
		"POST api.github.com /app/installations/42/access_tokens":                                       "github-app-token",
		"POST ghe.example /api/v3/app/installations/42/access_tokens":                                   "github-app-token",
		"PATCH api.github.com /applications/abc/token":                                                  "github-oauth",
		"POST api.github.com /repos/o/r/actions/runners/registration-token":                             "github-runner",
		"POST api.github.com /user/keys":                                                                "github-keys",
		"POST api.github.com /repos/o/r/keys":                                                           "github-deploy-keys",
		"POST gitlab.com /api/v4/projects/group%2Fproject/access_tokens":                                "gitlab-tokens",
		"POST gitlab.com /api/v4/users/1/impersonation_tokens":                                          "gitlab-tokens",
		"GET slack.com /api/oauth.v2.access":                                                            "slack-oauth",
		"POST slack.com /api/apps.connections.open":                                                     "slack-socket",
		"POST slack.com /api/auth.revoke":                                                               "slack-revoke",
		"POST slack.com /api/files.getUploadURLExternal":                                                "slack-upload",
		"POST slack.com /api/tooling.tokens.rotate":                                                     "slack-rotate",
		"POST iamcredentials.googleapis.com /v1/projects/-/serviceAccounts/a@b.iam:generateAccessToken": "google-service-account",
		"POST iamcredentials.googleapis.com /v1/projects/-/serviceAccounts/a@b.iam%3AgenerateIdToken":   "google-service-account",
		"POST iamcredentials.googleapis.com /google.iam.credentials.v1.IAMCredentials/SignJwt":          "google-service-account",
		"POST iamcredentials.googleapis.com /$rpc/google.iam.credentials.v1.IAMCredentials/SignBlob":    "google-service-account",
		"POST iam.googleapis.com /v1/projects/p/serviceAccounts/a/keys":                                 "google-keys",
		"POST sts.googleapis.com /v1/token":                                                             "google-sts",
		"POST www.googleapis.com /batch/iam/v1":                                                         "google-batch",
		"POST api.openai.com /v1/realtime/client_secrets":                                               "openai-keys",
		"GET api.openai.com /v1/organization/admin_api_keys":                                            "openai-keys",
		"POST api.anthropic.com /v1/organizations/api_keys/x":                                           "anthropic-keys",
		"POST api.stripe.com /v1/ephemeral_keys":                                                        "stripe-keys",
		"POST api.stripe.com /v2/iam/api_keys":                                                          "stripe-keys",
		"PUT vault.example /v1/auth/kubernetes/login":                                                   "vault-login",
		"POST vault.example /v1/team/a/auth/mount/x/login/user":                                         "vault-login",
		"POST vault.example /v1/auth/token/create-orphan":                                               "vault-token",
		"POST vault.example /v1/ns/auth/token/create/role":                                              "vault-token",
		"POST vault.example /v1/sys/wrapping/unwrap":                                                    "vault-wrapping",
		"POST x.snowflakecomputing.com /api/v2/users/u/programmatic-access-tokens":                      "snowflake-tokens",
		"GET api.datadoghq.eu /api/v2/api_keys/1":                                                       "datadog-keys",
		"POST api.pagerduty.com /services/1/integrations":                                               "pagerduty-keys",
		"POST codeartifact.eu-west-1.amazonaws.com /v1/authorization-token":                             "aws-codeartifact",
		"POST login.example /tenant/oauth2/v2.0/token":                                                  "oauth-token",
		"POST k8s.example /api/v1/namespaces/n/serviceaccounts/s/token":                                 "kubernetes-token",
	} {
		f := strings.Fields(call)
		got := check(f[1], f[0], f[2])
		if got.Entry == nil || got.Entry.ID != id {
			t.Errorf("%s: %+v, want %s", call, got.Entry, id)
			continue
		}
		if again := check(f[1], f[0], f[2], id); again != (Finding{}) {
			t.Errorf("%s: refused although %s is granted: %+v", call, id, again.Entry)
		}
		if got.Entry.Why == "" || !Builtin().Knows(id) {
			t.Errorf("%s has no source", id)
		}
	}
}

func TestMUST_H11_NoSpellingOfAPathGetsRoundTheGuard(t *testing.T) {
	for _, path := range []string{
		"/api/oauth.v2.access", "/api/oauth.v2.access/", "/API/OAuth.V2.Access", "/api/%6Fauth.v2.access", "/api/oauth%2Ev2.access", "/api/oauth.v2%2eaccess",
		"/api%2Foauth.v2.access", "/api/%256fauth.v2.access", "/api/oauth.v2.access%20", "/api/oauth.v2.access.", "/api/oauth.v2.access%00"[:20],
		"/api/oauth.v2.acce%C5%BF%C5%BF", "/api/oauth.v2.access.json", "/api/oauth.v2.access%3Bx=1", "/api/x%2F..%2Foauth.v2.access", "/x/oauth.v2.access", "/api%2f%2foauth.v2.access",
		"/api/%25zz%256fauth.v2.access"[:5] + "%256fauth%252ev2.access",
	} {
		for _, method := range []string{"POST", "post", "GET", "PUT"} {
			if f := check("slack.com", method, path); f.Entry == nil {
				t.Errorf("%s %s passes", method, path)
			}
		}
	}
	for _, path := range []string{"/api/v4/projects/a%2Fb/access_tokens", "/api/v4/projects/a%2Fb%2Faccess_tokens", "/api%2Fv4/user/personal_access_tokens.json", "/gitlab/api/v4/groups/g/access_tokens/1/rotate"} {
		if f := check("gitlab.example", "POST", path); f.Entry == nil {
			t.Errorf("%s passes", path)
		}
	}
}

func TestWhatMintsNothingPasses(t *testing.T) {
	for _, call := range []string{
		"POST slack.com /api/chat.postMessage", "GET api.github.com /repos/o/r/keys", "GET api.github.com /user/keys", "POST api.github.com /repos/o/r/issues",
		"POST api.openai.com /v1/chat/completions", "GET vault.example /v1/secret/data/app", "POST api.stripe.com /v1/charges", "GET x.googleapis.com /v1/projects/p/serviceAccounts",
		"GET api.qase.io /v1/project", "GET s3.amazonaws.com /b/k", "POST example.com /", "GET example.com /a/token", "POST api.anthropic.com /v1/messages",
	} {
		f := strings.Fields(call)
		if got := check(f[1], f[0], f[2]); got != (Finding{}) {
			t.Errorf("%s: %+v", call, got)
		}
	}
	if (*Guard)(nil).Check(Call{Path: "/user/keys", Method: "POST"}) != (Finding{}) || (*Guard)(nil).NeedsOperations() {
		t.Error("no guard refuses something")
	}
}

func TestMUST_H11_CallsBehindPOSTAreReadOrRefused(t *testing.T) {
	const host = "sts.eu-west-1.amazonaws.com"
	g := Builtin().At([]string{host})
	ask := func(read bool, ops []string, allowed ...string) Finding {
		return g.Check(Call{Host: host, Method: "POST", Path: "/", Operations: ops, Read: read, Allowed: allowed})
	}
	if f := ask(false, nil); !f.Unread {
		t.Errorf("unread: %+v", f)
	}
	if f := ask(true, nil); f.Entry == nil {
		t.Error("a call that cannot be told passes")
	}
	for _, op := range []string{"sts:AssumeRole", "sts:assumerolewithwebidentity", "sts:GetWebIdentityToken"} {
		if f := ask(true, []string{"sts:GetCallerIdentity", op}); f.Entry == nil {
			t.Errorf("%s passes", op)
		}
	}
	if f := ask(true, []string{"sts:GetCallerIdentity"}); f != (Finding{}) {
		t.Errorf("GetCallerIdentity: %+v", f)
	}
	if f := ask(true, []string{"sts:AssumeRole"}, "aws-sts"); f != (Finding{}) {
		t.Errorf("granted: %+v", f)
	}
	if f := ask(true, nil, "aws-sts"); f.Entry == nil || f.Entry.ID != "aws-sts-jwt" {
		t.Errorf("one of two is granted, and what cannot be told passes: %+v", f)
	}
	if f := ask(true, nil, "aws-sts", "aws-sts-jwt"); f != (Finding{}) {
		t.Errorf("all granted: %+v", f)
	}
	for hosts, want := range map[string]bool{"*.eu-west-1.amazonaws.com": true, "s3.amazonaws.com": false, "*.s3.amazonaws.com": true, "slack.com": false, "iam.amazonaws.com": true} {
		if got := Builtin().At([]string{hosts}).NeedsOperations(); got != want {
			t.Errorf("%s: %t", hosts, got)
		}
	}
	wild := Builtin().At([]string{"*.eu-west-1.amazonaws.com"})
	if f := wild.Check(Call{Host: "sqs.eu-west-1.amazonaws.com", Method: "POST", Path: "/"}); f != (Finding{}) {
		t.Errorf("a host without entries: %+v", f)
	}
}

func TestBuiltin(t *testing.T) {
	l := Builtin()
	ids := l.IDs()
	if l.Version() == "" || len(ids) < 40 || !slices.IsSorted(ids) || l.Knows("nothing") {
		t.Errorf("version %q, %d ids", l.Version(), len(ids))
	}
	for _, e := range l.entries {
		if strings.Trim(e.ID, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || len(e.key) >= maxKey || strings.HasPrefix(e.Why, "/") {
			t.Errorf("entry %+v", e)
		}
		if e.host == "*" && e.key == "" {
			t.Errorf("%s has no literal segment and would be tried for every request", e.ID)
		}
		for _, op := range e.operations {
			if !strings.Contains(op, ":") {
				t.Errorf("%s: operation %q", e.ID, op)
			}
		}
	}
}

func TestParseRefusesWhatItCannotUse(t *testing.T) {
	for _, bad := range []string{
		"", "# version 1\n", "a * * /x why\n", "# version 1\na * *\n", "# version 1\na example.com * /x why\n",
		"# version 1\na * * x:Y why\n", "# version 1\na * * /X why\n",
	} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// FuzzPath: encoding any bytes of a path that is refused does not let it through, nor do
// slashes, case or what stands behind it.
func FuzzPath(f *testing.F) {
	f.Add([]byte{1, 2, 3}, "/api/oauth.v2.access")
	f.Add([]byte{0xff, 0, 9, 7}, "/v1/ns/auth/token/create")
	l := Builtin()
	g := l.At([]string{"slack.com"})
	f.Fuzz(func(t *testing.T, how []byte, path string) {
		ask := func(p string) *Entry {
			return g.Check(Call{Host: "slack.com", Method: "POST", Path: p}).Entry
		}
		if strings.Contains(path, "%") || ask(path) == nil {
			return
		}
		const hex = "0123456789abcdefABCDEF"
		var b strings.Builder
		for i := range len(path) {
			c := path[i]
			if len(how) == 0 {
				b.WriteByte(c)
				continue
			}
			switch h := how[i%len(how)]; h % 5 {
			case 1:
				b.WriteString("%" + string(hex[c>>4]) + string(hex[c&15]))
			case 2:
				b.WriteString("%25" + string(hex[c>>4]) + string(hex[c&15]))
			case 3:
				b.WriteString(strings.ToUpper(string(rune(c & 0x7f))))
				if c >= 0x80 {
					return
				}
			default:
				b.WriteByte(c)
			}
		}
		if ask(b.String()) == nil || ask(b.String()+"/") == nil {
			t.Errorf("%q is refused, %q passes", path, b.String())
		}
	})
}

// Matching takes no time that grows faster than the path and the template together.
func TestLongPathsAreMatchedQuickly(t *testing.T) {
	g := Builtin().At([]string{"vault.example"})
	for _, path := range []string{"/v1" + strings.Repeat("/auth", 1600), "/v1" + strings.Repeat("/login", 1300) + "/x", strings.Repeat("/oauth/token", 600) + "/x"} {
		start := time.Now()
		for range 20 {
			g.Check(Call{Host: "vault.example", Method: "POST", Path: path})
		}
		if took := time.Since(start); took > 2*time.Second { // quadratic, it would be a minute
			t.Errorf("%.20s…: 20 checks took %s", path, took)
		}
	}
	if !match([]string{"**"}, nil) || match([]string{"a"}, nil) || !match([]string{"a", "**", "b", "**"}, []string{"a", "x", "b"}) {
		t.Error("match is wrong")
	}
}

func BenchmarkCheck(b *testing.B) {
	g := Builtin().At([]string{"api.openai.com"})
	c := Call{Host: "api.openai.com", Method: "POST", Path: "/v1/chat/completions"}
	b.ReportAllocs()
	for b.Loop() {
		if g.Check(c) != (Finding{}) {
			b.Fatal("refused")
		}
	}
}

// A server may trim a name, or end it at an encoded query, fragment or NUL.
func TestMUST_H11_EncodedEndsAndBlanksHideNothing(t *testing.T) {
	for _, path := range []string{
		"/app/installations/1/access_tokens%23", "/app/installations/1/access_tokens%23x", "/app/installations/1/access_tokens%3Fa=b/c",
		"/app/installations/1/access_tokens%00.json", "/app/installations/1/access_tokens%0d%0a", "/app/installations/1/%09access_tokens",
		"/app/installations/1/access_tokens%2523", "/%20app/installations%00x/1/access_tokens", "/app/installations/1/access_tokens%C2%A0",
		"/app/installations/1/access_tokens\u00a0", "/app/installations/%23/access_tokens", "/authorizations", "/authorizations/clients/abc",
	} {
		if f := check("api.github.com", "POST", path); f.Entry == nil {
			t.Errorf("%s passes", path)
		}
	}
	for _, path := range []string{"/api/%20apps.connections.open", "/api/apps.connections.open%20", "/api/%01apps.connections.open%23?", "/api/migration.exchange"} {
		if f := check("slack.com", "POST", path); f.Entry == nil {
			t.Errorf("%s passes", path)
		}
	}
	if f := check("ghe.example", "POST", "/api/v3/authorizations"); f.Entry == nil {
		t.Error("GitHub Enterprise Server passes")
	}
	for _, path := range []string{"/repos/o/r/issues%23access_tokens", "/authorizations.html/x"} {
		if f := check("api.github.com", "POST", path); f.Entry != nil {
			t.Errorf("%s is %s", path, f.Entry.ID)
		}
	}
}
