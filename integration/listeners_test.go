// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package integration

import (
	"crypto/tls"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// A caller that shows its X.509-SVID to the TLS listener is known by it; without one
// there is no tunnel.
func TestX509Listener(t *testing.T) {
	w := newWorld(t)
	e := w.start(t, "")
	svid, err := w.issuer.MintX509(spiffeid.RequireFromString(idPrefix+"mesh"), 0)
	if err != nil {
		t.Fatal(err)
	}
	cert := &tls.Certificate{PrivateKey: svid.PrivateKey}
	for _, c := range svid.Certificates {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	w.writePair(t, "svid", cert)
	curl := []string{"curl", "-sSi", "--proxy-cacert", w.file("twins.pem")}
	e.quiet(t)
	got := e.exec(t, "mesh", command{argv: append(curl, "--proxy-cert", w.file("svid.pem"), "--proxy-key", w.file("svid.key"), restGood)})
	e.knows(t, got, "mesh", "x509-svid")
	got = e.exec(t, "mesh", command{argv: append(curl, restGood)})
	if got.code == 0 || len(w.arrivals.take()) != 0 {
		t.Errorf("without an SVID: exit %d\n%s", got.code, got.all())
	}
}

// A caller without a client certificate sends a JWT-SVID: curl at once, git after the
// challenge, which is all that git can.
func TestJWTListener(t *testing.T) {
	w := newWorld(t)
	e := w.start(t, "")
	token, err := w.issuer.MintJWT(spiffeid.RequireFromString(idPrefix+"ci"), audience, 0)
	if err != nil {
		t.Fatal(err)
	}
	other, err := w.issuer.MintJWT(spiffeid.RequireFromString(idPrefix+"ci"), "spiffe://acme.example/another", 0)
	if err != nil {
		t.Fatal(err)
	}
	bearer := func(jwt string) command {
		return command{argv: []string{"curl", "-sSi", "--proxy-header", "@-", restGood}, in: "Proxy-Authorization: Bearer " + jwt + "\n"}
	}
	e.quiet(t)
	e.knows(t, e.exec(t, "bearer", bearer(token.Reveal())), "ci", "jwt-svid")

	basic := "user:" + token.Reveal()
	e.knows(t, e.exec(t, "bearer", command{
		argv: []string{"sh", "-c", `curl -sSi -x "http://$USERPASS@${HTTPS_PROXY#http://}" "$0"`, restGood}, env: []string{"USERPASS=" + basic},
	}), "ci", "jwt-svid")

	for name, c := range map[string]command{
		"no token":       {argv: []string{"curl", "-sSi", restGood}},
		"wrong audience": bearer(other.Reveal()),
		"no JWT":         {argv: []string{"curl", "-sSi", "--proxy-header", "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("user:pass")), restGood}},
	} {
		got := e.exec(t, "bearer", c)
		if got.code == 0 || !strings.Contains(got.all(), "407") || len(w.arrivals.take()) != 0 {
			t.Errorf("%s: exit %d, want a 407\n%s", name, got.code, got.all())
		}
	}
	e.quiet(t)
	got := e.exec(t, "bearer", command{argv: gitThroughBearer("https://github.com/acme/app.git"), env: []string{"USERPASS=" + basic}})
	if got.code != 0 || !strings.Contains(got.stdout, "hello from the repository") {
		t.Errorf("git: exit %d\n%s", got.code, got.all())
	}
	e.arrivedAs(t, "ci", "jwt-svid")
}

// gitThroughBearer clones with the proxy's user and password in git's own setting.
func gitThroughBearer(url string) []string {
	return []string{"sh", "-c", `git -c "http.proxy=http://$USERPASS@${HTTPS_PROXY#http://}" clone -q "$0" clone && cat clone/README`, url}
}

// knows: a call was made and credited to the workload.
func (e *egret) knows(t *testing.T, got result, name, evidence string) {
	t.Helper()
	if got.code != 0 || !strings.Contains(got.stdout, `"WEB"`) {
		t.Errorf("exit %d\n%s", got.code, got.all())
	}
	e.arrivedAs(t, name, evidence)
}

func (e *egret) arrivedAs(t *testing.T, name, evidence string) {
	t.Helper()
	list := e.world.arrivals.take()
	if len(list) == 0 {
		t.Error("nothing arrived at the SaaS")
	}
	for _, a := range list {
		if !a.Ours {
			t.Errorf("arrived without egret's credential: %+v", a)
		}
	}
	credited := 0
	for _, r := range e.records(t, len(list)) {
		if r.Verdict == "allow" && r.Workload == idPrefix+name && r.Evidence == evidence {
			credited++
		}
	}
	if credited < len(list) {
		t.Errorf("%d of %d requests were credited to %s by %s", credited, len(list), name, evidence)
	}
}
