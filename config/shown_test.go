// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// loadSecretFile loads a good policy whose secret is said to be in this file.
func loadSecretFile(t *testing.T, file string, opt LoadOptions) (*Bundle, Faults) {
	t.Helper()
	node, dir := policyFolder(t, "testdata/good/policy.yaml")
	name := filepath.Join(dir, "policy.yaml")
	text, err := os.ReadFile(name)
	check(t, err)
	changed := strings.Replace(string(text), "file: token", "file: \""+file+"\"", 1)
	if changed == string(text) {
		t.Fatal("the policy names no secret file")
	}
	put(t, dir, "policy.yaml", changed, 0o600)
	return Load(node, opt)
}

// TestMUST_P3_FaultNamesTheSecretFile that is missing, as it was written.
func TestMUST_P3_FaultNamesTheSecretFile(t *testing.T) {
	for _, file := range []string{"../secrets/qase-token", "/run/secrets/egret/slack-bot-production-2027", "slack.token", "qase-token", "secrets/team-web/qase"} {
		_, faults := loadSecretFile(t, file, loadOptions())
		if len(faults) != 1 || faults[0].Value != file {
			t.Errorf("%s: %v", file, faults)
		}
	}
}

// TestMUST_C9_PastedForAFile: a secret where the name of its file belongs is not shown.
func TestMUST_C9_PastedForAFile(t *testing.T) {
	for _, token := range []string{
		"xoxb-12345-hunter2", "ghp_16C7e42F292c6912E7710c838347Ae178B4a", "AKIAIOSFODNN7EXAMPLE",
		"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "9f86d081884c7d659a2feaa0c55ad015", "eyJhbGciOiJub25lIn0.e30.",
		"correct horse battery staple", "/xoxb-12345-hunter2",
	} {
		for _, elsewhere := range []bool{false, true} {
			opt := loadOptions()
			opt.SecretsElsewhere = elsewhere
			b, faults := loadSecretFile(t, token, opt)
			said := faults.Error()
			if b != nil {
				said += strings.Join(b.Notes, "\n")
			}
			if !strings.Contains(said, "[redacted]") || strings.Contains(said, token) {
				t.Errorf("%s: %s", token, said)
			}
		}
	}
}

// TestSecretsElsewhere: who judges policy away from the node has no secrets.
func TestSecretsElsewhere(t *testing.T) {
	opt := loadOptions()
	opt.SecretsElsewhere = true
	b, faults := loadSecretFile(t, "../secrets/qase-token", opt)
	if len(faults) > 0 || len(b.Notes) != 1 || b.Notes[0] != "secret file ../secrets/qase-token is not here; egret run needs it" {
		t.Fatalf("%v, %v", b, faults)
	}
	if b, faults = loadSecretFile(t, "token", opt); len(faults) > 0 || len(b.Notes) > 0 {
		t.Errorf("a secret that is here: %v, %v", b, faults)
	}
	if _, faults = loadSecretFile(t, "empty.txt", opt); len(faults) != 1 {
		t.Errorf("a file that is here and holds no secret: %v", faults)
	}
	for _, input := range []string{"policy-env-not-allowed.yaml", "policy-systemd-none.yaml"} {
		node, _ := policyFolder(t, "testdata/bad/"+input)
		if _, faults := Load(node, opt); len(faults) > 0 {
			t.Errorf("%s: %v", input, faults)
		}
	}
}

// TestMUST_C9_PastedElsewhere: a token that was pasted into the wrong member is cut
// wherever the report repeats it.
func TestMUST_C9_PastedElsewhere(t *testing.T) {
	good, err := os.ReadFile("testdata/good/policy.yaml")
	check(t, err)
	for _, token := range []string{
		"xoxb-1234567890-hunter2", "ghp_16C7e42F292c6912E7710c838347Ae178B4a", "AKIAIOSFODNN7EXAMPLE",
		"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b", "sk-proj-abcdefghijklmno", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2ln",
	} {
		for _, place := range []string{"name: slack-bot", "environment: production", "destinations: [slack]", "usableBy: [nightly]", "hosts: [slack.com]", "methods: [POST]", "owner:"} {
			key, value, _ := strings.Cut(place, ": ")
			pasted := key + ": \"" + token + "\""
			switch {
			case strings.HasPrefix(value, "["):
				pasted = key + ": [\"" + token + "\"]"
			case value == "": // as a key
				pasted = token + ":"
			}
			text := strings.Replace(string(good), place, pasted, 1)
			if text == string(good) {
				t.Fatalf("no %q in the policy", place)
			}
			node, dir := policyFolder(t, "testdata/good/policy.yaml")
			put(t, dir, "policy.yaml", text, 0o600)
			_, faults := Load(node, loadOptions())
			said := strings.ToLower(faults.Error())
			if len(faults) == 0 && key != "methods" && key != "owner:" || strings.Contains(said, strings.ToLower(token[:20])) {
				t.Errorf("%s: %s: %d faults\n%s", token, place, len(faults), said)
			}
		}
	}
	for _, fine := range []string{
		"spiffe://acme.example/ns/qa/sa/nightly-dashboard-v2", "clientAuthentificationMethod", "slack-bot-production-2027-03",
		"api.eu-central-1.amazonaws.com", "com.example.service-account-reader", "10.20.0.0/16", "/srv/Acme2-Production-egret3-Files9/ca.pem",
	} {
		if f := (Fault{Value: fine, Rule: fine}).withoutTokens(); f.Value != fine {
			t.Errorf("%s became %s", fine, f.Value)
		}
	}
}
