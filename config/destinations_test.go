// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	api "github.com/egret-proxy/egret/api/v1alpha1"
	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/policy"
)

// asked is a request that an application makes with a ready destination.
type asked struct {
	method, url string
	operations  string // comma separated, where the request's body or method tells
}

// readyDestinations are a call that each file is made for, and one that must not pass:
// somebody else's data, or a fresh secret.
func readyDestinations() map[string][2]asked {
	return map[string][2]asked{
		"anthropic":   {{"POST", "api.anthropic.com/v1/messages", ""}, {"GET", "api.anthropic.com/v1/organizations/api_keys", ""}},
		"aws-bedrock": {{"POST", "bedrock-runtime.eu-central-1.amazonaws.com/model/anthropic.claude-3-5-sonnet-20240620-v1%3A0/converse", ""}, {"POST", "bedrock-runtime.eu-central-1.amazonaws.com/model/other/converse", ""}},
		"aws-s3":      {{"PUT", "acme-reports.s3.eu-central-1.amazonaws.com/nightly/a%2Fb.csv", "s3:PutObject"}, {"GET", "acme-reports.s3.eu-central-1.amazonaws.com/nightly/a", "s3:GetObjectAcl"}},
		"aws-sts":     {{"POST", "sts.eu-central-1.amazonaws.com/", "sts:GetCallerIdentity"}, {"POST", "sts.eu-central-1.amazonaws.com/", "sts:AssumeRole"}},
		"azure":       {{"GET", "graph.microsoft.com/v1.0/users", ""}, {"POST", "graph.microsoft.com/v1.0/applications/x/addPassword", ""}},
		"datadog":     {{"POST", "api.datadoghq.com/api/v2/series", ""}, {"GET", "api.datadoghq.com/api/v2/api_keys", ""}},
		"github":      {{"POST", "api.github.com/repos/acme/widgets/issues/7/labels", ""}, {"POST", "api.github.com/app/installations/1/access_tokens", ""}},
		"gitlab":      {{"GET", "gitlab.com/api/v4/projects/acme%2Fwidgets/merge_requests", ""}, {"GET", "gitlab.com/api/v4/projects/acme%2Fother/merge_requests", ""}},
		"google":      {{"POST", "bigquery.googleapis.com/bigquery/v2/projects/acme-prod/queries", ""}, {"POST", "bigquery.googleapis.com/batch/bigquery/v2", ""}},
		"jira":        {{"GET", "acme.atlassian.net/rest/api/3/issue/QA-7", ""}, {"DELETE", "acme.atlassian.net/rest/api/3/issue/QA-7", ""}},
		"openai":      {{"POST", "api.openai.com/v1/responses", ""}, {"POST", "api.openai.com/v1/realtime/client_secrets", ""}},
		"pagerduty":   {{"GET", "api.pagerduty.com/oncalls", ""}, {"POST", "api.pagerduty.com/incidents", ""}},
		"qase":        {{"POST", "api.qase.io/v1/result/DEMO/12/bulk", ""}, {"POST", "api.qase.io/v1/result/OTHER/12/bulk", ""}},
		"salesforce":  {{"GET", "acme.my.salesforce.com/services/data/v62.0/query", ""}, {"GET", "acme.my.salesforce.com/services/data/v62.0/sobjects/User/1", ""}},
		"slack":       {{"POST", "slack.com/api/chat.postMessage", ""}, {"POST", "slack.com/api/apps.connections.open", ""}},
		"snowflake":   {{"POST", "acme-prod.snowflakecomputing.com/api/v2/statements", ""}, {"POST", "acme-prod.snowflakecomputing.com/session/v1/login-request", ""}},
		"stripe":      {{"GET", "api.stripe.com/v1/charges/ch_1", ""}, {"POST", "api.stripe.com/v1/ephemeral_keys", ""}},
		"vault":       {{"POST", "vault.acme.example:8200/v1/transit/encrypt/reports", ""}, {"POST", "vault.acme.example:8200/v1/auth/token/create", ""}},
	}
}

// TestReadyDestinations: each example grants what it says, and not what is near it.
func TestReadyDestinations(t *testing.T) {
	files, err := filepath.Glob("../examples/destinations/*.yaml")
	check(t, err)
	calls := readyDestinations()
	if len(files) != len(calls) {
		t.Errorf("%d files and %d calls", len(files), len(calls))
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		docs, faults := LoadPolicy([]PolicyPath{{Path: file}})
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		secretsFrom(t, docs.Objects)
		compiled, found := api.Compile(docs.Objects, api.Options{Roots: func(string) (*x509.CertPool, string, error) { return x509.NewCertPool(), "digest", nil }})
		if len(found) > 0 {
			t.Fatalf("%s: %+v", name, found)
		}
		p := policy.New(compiled.Set)
		if d := decided(t, p, calls[name][0]); d.Verdict != policy.Allow || d.Rule.Credential == nil {
			t.Errorf("%s: %+v is refused: %s", name, calls[name][0], d.Reason)
		}
		if d := decided(t, p, calls[name][1]); d.Verdict != policy.Deny {
			t.Errorf("%s: %+v is allowed", name, calls[name][1])
		}
	}
}

// TestDestinationsAreDocumented: each file has its line.
func TestDestinationsAreDocumented(t *testing.T) {
	raw, err := os.ReadFile("../docs/destinations.md")
	check(t, err)
	text := string(raw)
	for name := range readyDestinations() {
		if !strings.Contains(text, "](../examples/destinations/"+name+".yaml)") {
			t.Errorf("docs/destinations.md has no line for %s", name)
		}
	}
}

func decided(t *testing.T, p *policy.Policy, x asked) policy.Decision {
	t.Helper()
	host, path, _ := strings.Cut(x.url, "/")
	if !strings.Contains(host, ":") {
		host += ":443"
	}
	target, err := policy.ParseTarget(host)
	check(t, err)
	id := spiffeid.RequireFromString(p.Bindings()[0].Pattern)
	r := policy.Request{ID: id, Evidence: identity.EvidenceSidecar, Target: target, Method: x.method, Path: "/" + path, At: time.Now()}
	if x.operations != "" {
		r.Operations, r.Read = strings.Split(x.operations, ","), true
	}
	return p.Request(r)
}
