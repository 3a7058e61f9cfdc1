// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"path/filepath"
	"strings"
	"testing"
)

// svidPolicy is a whole policy with a provider that shows a JWT-SVID to others.
func svidPolicy(provider, inject string) string {
	return `apiVersion: egret.dev/v1alpha1
kind: Destination
metadata: {name: slack}
spec: {hosts: [slack.com]}
---
apiVersion: egret.dev/v1alpha1
kind: Credential
metadata: {name: slack-bot}
spec:
  owner: qa@acme.example
  environment: production
  destinations: [slack]
  usableBy: ["spiffe://acme.example/nightly"]
  provider: {` + provider + `}
` + inject
}

const bearerInject = "  inject: [{header: Authorization, value: \"Bearer {token}\"}]\n"

const (
	previewGoogle = "google: {workloadIdentityProvider: projects/123456789012/locations/global/workloadIdentityPools/spire/providers/acme}"
	previewOpenAI = "openai: {identityProvider: a, serviceAccount: b}"
	previewAzure  = "azure: {tenant: acme.example, clientID: 66666666-7777-8888-9999-000000000000, scope: https://graph.microsoft.com/.default}"
	previewClaude = "anthropic: {federationRule: fdrl_a, organization: 66666666-7777-8888-9999-000000000000, serviceAccount: svac_a}"
)

// loadPolicy loads one file for a node whose listener takes JWT-SVIDs for an audience.
func loadPolicy(t *testing.T, text, audience string) (*Bundle, Faults) {
	t.Helper()
	dir := newFolder(t)
	put(t, dir, "policy.yaml", text, 0o600)
	node := Defaults()
	node.Certs.Issuer.File = []IssuerFile{{Chain: "chain.pem", Key: "key.pem"}}
	node.Policy.Paths = []PolicyPath{{Path: filepath.Join(dir, "policy.yaml")}}
	node.Listeners = []Listener{{Name: "local", Identify: Identify{JWTSVID: &JWTSVID{Audience: audience}}}}
	return Load(&node, loadOptions())
}

// What is valid at a listener must be of no use to anybody else, and the other way round.
func TestMUST_I10_NoOneIsShownWhatAListenerAccepts(t *testing.T) {
	for provider, audience := range map[string]string{
		"jwt: {audience: egret}": "egret",
		previewGoogle:            "https://iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/spire/providers/acme",
		previewOpenAI:            "https://api.openai.com/v1",
		previewAzure:             "api://AzureADTokenExchange",
		previewClaude:            "https://api.anthropic.com",
	} {
		_, faults := loadPolicy(t, svidPolicy(provider, bearerInject), audience)
		kind, _, _ := strings.Cut(provider, ":")
		if len(faults) != 1 || faults[0].Path != "spec.provider."+kind || !strings.Contains(faults.Error(), "audience of listener local") {
			t.Errorf("%s: %v", kind, faults)
		}
		if _, faults := loadPolicy(t, svidPolicy(provider, bearerInject), "another"); len(faults) != 0 {
			t.Errorf("%s: %v", kind, faults)
		}
	}
}

func TestPreviewsAreNoted(t *testing.T) {
	for provider, want := range map[string]string{
		previewGoogle:        `credential "slack-bot": provider google is a preview, not tested against a real issuer`,
		previewOpenAI:        `credential "slack-bot": provider openai is a preview, not tested against a real issuer`,
		previewAzure:         `credential "slack-bot": provider azure is a preview, not tested against a real issuer`,
		previewClaude:        `credential "slack-bot": provider anthropic is a preview, not tested against a real issuer`,
		"jwt: {audience: a}": "",
	} {
		bundle, faults := loadPolicy(t, svidPolicy(provider, bearerInject), "egret")
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		if got := strings.Join(bundle.Notes, "\n"); got != want {
			t.Errorf("notes %q, want %q", got, want)
		}
	}
}

// A client certificate needs no injection, and constants may stand beside it.
func TestMTLSNeedsNoInjection(t *testing.T) {
	for _, inject := range []string{"", "  inject: [{header: X-Tenant, value: acme}]\n"} {
		bundle, faults := loadPolicy(t, svidPolicy("mtls: {}", inject), "egret")
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		specs, faults := Build(bundle, BuildOptions{})
		if len(faults) > 0 || len(specs) != 1 || !specs[0].Bare || specs[0].Shared {
			t.Errorf("%+v, %v", specs, faults)
		}
	}
}

// With as: egret it is egret's own SVID, for every provider that logs in with one.
func TestAsEgretWithAnSVID(t *testing.T) {
	for _, provider := range []string{"mtls: {}", "jwt: {audience: a}", previewGoogle, previewAzure, previewClaude, previewOpenAI} {
		inject := bearerInject
		if strings.HasPrefix(provider, "mtls") {
			inject = ""
		}
		bundle, faults := loadPolicy(t, svidPolicy(provider, inject+"  as: egret\n"), "egret")
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		specs, faults := Build(bundle, BuildOptions{Dial: nowhere})
		if len(faults) > 0 || len(specs) != 1 || !specs[0].AsSelf || specs[0].Shared {
			t.Errorf("%s: %+v, %v", provider, specs, faults)
		}
		for _, s := range specs {
			_ = s.Close()
		}
	}
}
