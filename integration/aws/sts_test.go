// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration

package aws

import (
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const account = "000000000000" // the only one of versitygw

// oidc serves what an OIDC discovery provider of SPIRE serves: the keys of the trust domain.
func (w *world) oidc(t *testing.T) {
	t.Helper()
	cert, err := w.ca.Certificate(oidcHost)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", publicAddress+":443")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(rw).Encode(map[string]any{
			"issuer": "https://" + oidcHost, "jwks_uri": "https://" + oidcHost + "/keys",
			"id_token_signing_alg_values_supported": []string{"ES256"},
		})
	})
	mux.HandleFunc("/keys", func(rw http.ResponseWriter, _ *http.Request) {
		bundle, err := w.issuer.Bundles().GetJWTBundleForTrustDomain(spiffeid.RequireTrustDomainFromString("acme.example"))
		if err != nil {
			rw.WriteHeader(http.StatusInternalServerError)
			return
		}
		text, _ := bundle.Marshal()
		rw.Header().Set("Content-Type", "application/json")
		_, _ = rw.Write(text)
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		_ = srv.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12}))
	}()
	t.Cleanup(func() { _ = srv.Close() })
}

// federation is versitygw as IAM, STS and S3, which trusts the SPIFFE issuer for one role.
func federation(t *testing.T) (w *world, storeAddress, stsAddress string) {
	t.Helper()
	w = newWorld(t)
	w.oidc(t)
	stsAddress = freePort(t)
	cert, key := w.pair(t, stsHost)
	socket := w.file("iam.sock")
	if err := os.MkdirAll(w.file("iam"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.serve(t, stsAddress, []string{"SSL_CERT_FILE=" + w.file("servers.pem")},
		os.Getenv(vgwVar), "--port", stsAddress, "--access", rootKey, "--secret", rootSecret, "--region", region, "--cert", cert, "--key", key,
		"iam", "--dir", w.file("iam"), "--private-ports", socket)
	_, port, _ := net.SplitHostPort(stsAddress)
	for _, python := range pythons(t) {
		code, out := runProgram(t, time.Minute, []string{
			"AWS_ACCESS_KEY_ID=" + rootKey, "AWS_SECRET_ACCESS_KEY=" + rootSecret, "AWS_DEFAULT_REGION=" + region, "AWS_CA_BUNDLE=" + w.file("servers.pem"),
		}, python, "testdata/role.py", "https://"+stsHost+":"+port, "https://"+oidcHost, appID, bucket)
		if code != 0 {
			t.Fatalf("exit %d\n%s", code, out)
		}
		break
	}
	storeAddress = w.versitygw(t, "--iam-standalone-endpoint", socket)
	return w, storeAddress, stsAddress
}

// assume makes a provider that asks the twin's STS.
func (w *world) assume(role, sts, policy string) string {
	text := "{assumeRoleWithWebIdentity: {roleARN: \"arn:aws:iam::" + account + ":role/" + role + "\", stsURL: \"https://" + stsHost + "/\", endpoint: {dial: \"" + sts + "\", roots: " + filepath.Base(w.file("servers.pem")) + "}"
	if policy != "" {
		text += ", policy: '" + policy + "'"
	}
	return text + "}}"
}

// The whole way without any stored secret: the workload's JWT-SVID, verified by STS with
// the issuer's published keys against the role's trust policy, becomes a session whose
// keys sign every request of an application that has placeholders.
func TestAssumeRoleWithWebIdentity(t *testing.T) {
	w, storeAddress, sts := federation(t)
	w.values["Destinations"] = map[string]destination{"store": {Host: storeHost, Dial: storeAddress, Provider: w.assume("reports", sts, ""), Service: "s3"}}
	w.render(t, "policy.yaml")
	e := w.start(t)
	for version, python := range pythons(t) { // copies end in an internal error of versitygw 1.8.0 for a session of a role
		code, out := e.run(t, 3*time.Minute, python, "testdata/objects.py", "https://"+storeHost, bucket, "copy")
		if code != 0 || !strings.HasSuffix(out, "all of it worked\n") {
			t.Errorf("boto3 %s: exit %d\n%s", version, code, out)
		}
	}
	text, err := os.ReadFile(w.file("audit.jsonl"))
	if err != nil || !strings.Contains(string(text), `"ASIA`) {
		t.Errorf("no record names the session's key: %v", err)
	}
}

// What STS and the store refuse is refused, for the reason that they have.
func TestAssumeRoleIsRefused(t *testing.T) {
	w, storeAddress, sts := federation(t)
	for name, x := range map[string]struct {
		role, policy string
		status       int
		decision     string
	}{
		"a role for somebody else":   {"others", "", http.StatusServiceUnavailable, "credential; reason=provider_refused"},
		"a role that is not there":   {"nobody", "", http.StatusServiceUnavailable, "credential; reason=provider_refused"},
		"less by the session policy": {"reports", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:ListBucket","Resource":"*"}]}`, http.StatusForbidden, "allow"},
	} {
		t.Run(name, func(t *testing.T) {
			w.values["Destinations"] = map[string]destination{"store": {Host: storeHost, Dial: storeAddress, Provider: w.assume(x.role, sts, x.policy), Service: "s3"}}
			w.render(t, "policy.yaml")
			e := w.start(t)
			resp, _ := e.put(t, "key", "UNSIGNED-PAYLOAD", 10)
			if resp.StatusCode != x.status || !strings.HasPrefix(resp.Header.Get("Egret-Decision"), x.decision) {
				t.Errorf("%s %v", resp.Status, resp.Header)
			}
		})
	}
}
