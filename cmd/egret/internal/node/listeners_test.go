// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"github.com/egret-proxy/egret/cmd/egret/internal/nodetest"
	"github.com/egret-proxy/egret/identity/embedded"
)

// program finds a client that people use, or skips.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s: %v", name, err)
	}
	return path
}

// listenersWorld has one listener more, and a dashboard that may come with these kinds
// of evidence.
func listenersWorld(t *testing.T, listener, evidence string) *nodetest.World {
	t.Helper()
	w := newWorld(t, embedded.Options{})
	edit(t, w, "egret.yaml", "listeners:\n", "listeners:\n  - "+listener+"\n")
	edit(t, w, "policy/teams/qa/workloads.yaml", "  purpose: posts last", "  evidence: ["+evidence+"]\n  purpose: posts last")
	return w
}

// run runs a program and returns what it printed.
func (e *egret) run(name string, args ...string) string {
	cmd := exec.CommandContext(e.t.Context(), name, args...)
	cmd.Dir = e.world.Dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + e.world.Dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return err.Error() + "\n" + string(out)
	}
	return string(out)
}

// trust writes the files that clients trust.
func (e *egret) trust() {
	check(e.t, e.world.Write("ca.pem", string(e.CABundle())))
}

const dashboardEvidence = "x509-svid, jwt-svid, sidecar"

// TestX509Listener: the client certificate of curl's connection to the proxy is the
// caller's SVID.
func TestX509Listener(t *testing.T) {
	t.Parallel()
	curl := program(t, "curl")
	w := listenersWorld(t, "{name: mesh, address: 127.0.0.1:0, kind: forward, tls: {cert: listener.pem, key: listener.key}, identify: {x509SVID: {}}}", dashboardEvidence)
	e := start(t, w).ready()
	e.trust()
	svid, err := workloadapi.FetchX509SVID(t.Context(), workloadapi.WithAddr("unix://"+w.Socket()))
	check(t, err)
	cert, key, err := svid.Marshal()
	check(t, err)
	check(t, w.Write("svid.pem", string(cert)))
	check(t, w.Write("svid.key", string(key)))
	_, port, _ := strings.Cut(e.Address("mesh").String(), ":")
	args := []string{"-sS", "-x", "https://localhost:" + port, "--proxy-cacert", "twins.pem", "--cacert", "ca.pem"}
	if got := e.run(curl, append(args, "--proxy-cert", "svid.pem", "--proxy-key", "svid.key", projects)...); !strings.Contains(got, `"status":true`) {
		t.Errorf("with its SVID: %s", got)
	}
	eventually(t, "the record", func() bool { return strings.Contains(e.records(), `"evidence":"x509-svid"`) })
	if got := e.run(curl, append(args, "-v", projects)...); !strings.Contains(got, "identity; reason=no_evidence") {
		t.Errorf("without: %s", got)
	}
	if got := e.run(curl, append(args, "--proxy-cert", "listener.pem", "--proxy-key", "listener.key", "-v", projects)...); strings.Contains(got, `"status":true`) || !strings.Contains(got, "Egret-Decision: identity; ") {
		t.Errorf("with a certificate that is no SVID: %s", got)
	}
}

// TestJWTListener: curl and git send the JWT-SVID as people configure it.
func TestJWTListener(t *testing.T) {
	t.Parallel()
	curl := program(t, "curl")
	w := listenersWorld(t, "{name: ci, address: 127.0.0.1:0, kind: forward, identify: {jwtSVID: {audience: egret}}}", dashboardEvidence)
	e := start(t, w).ready()
	e.trust()
	token := func(audience string) string {
		svid, err := workloadapi.FetchJWTSVID(t.Context(), jwtsvid.Params{Audience: audience}, workloadapi.WithAddr("unix://"+w.Socket()))
		check(t, err)
		return svid.Marshal()
	}
	jwt := token("egret")
	proxy := e.Address("ci").String()
	args := []string{"-sS", "-x", "http://" + proxy, "--cacert", "ca.pem", projects}
	for name, extra := range map[string][]string{
		"basic":    {"-U", "spiffe:" + jwt},
		"any auth": {"--proxy-anyauth", "-U", "spiffe:" + jwt},
		"bearer":   {"--proxy-header", "Proxy-Authorization: Bearer " + jwt},
	} {
		if got := e.run(curl, append(extra, args...)...); !strings.Contains(got, `"status":true`) {
			t.Errorf("%s: %s", name, got)
		}
	}
	for name, tc := range map[string]struct{ token, want string }{
		"none":             {"", "no_evidence"},
		"another audience": {token("other"), "wrong_audience"},
		"broken":           {jwt[:len(jwt)-8] + "AAAAAAAA", "invalid_evidence"},
	} {
		extra := []string{"-v"}
		if tc.token != "" {
			extra = append(extra, "--proxy-header", "Proxy-Authorization: Bearer "+tc.token)
		}
		got := e.run(curl, append(extra, args...)...)
		if !strings.Contains(got, " 407 ") || !strings.Contains(got, "Egret-Decision: identity; reason="+tc.want) {
			t.Errorf("%s: %s", name, got)
		}
	}
	// git asks without credentials first, and comes back on the same connection.
	got := e.run(program(t, "git"), "-c", "http.proxy=http://spiffe:"+jwt+"@"+proxy, "-c", "http.sslCAInfo="+filepath.Join(w.Dir, "ca.pem"),
		"ls-remote", "https://api.qase.io/v1/repo.git")
	if !strings.Contains(got, "403") {
		t.Errorf("git: %s", got)
	}
	eventually(t, "git's request", func() bool { return strings.Contains(e.records(), `"reason":"path_not_allowed"`) })
	if strings.Contains(e.records()+e.log.String(), jwt) {
		t.Error("the token is in a record or the log")
	}
}

// TestMUST_I12_BearerEvidenceIsOptIn: a Workload that does not list jwt-svid is not
// granted by it.
func TestMUST_I12_BearerEvidenceIsOptIn(t *testing.T) {
	t.Parallel()
	curl := program(t, "curl")
	w := listenersWorld(t, "{name: ci, address: 127.0.0.1:0, kind: forward, identify: {jwtSVID: {audience: egret}}}", "sidecar")
	e := start(t, w).ready()
	e.trust()
	svid, err := workloadapi.FetchJWTSVID(t.Context(), jwtsvid.Params{Audience: "egret"}, workloadapi.WithAddr("unix://"+w.Socket()))
	check(t, err)
	got := e.run(curl, "-sS", "-x", "http://"+e.Address("ci").String(), "--cacert", "ca.pem", "-U", "spiffe:"+svid.Marshal(), projects)
	if !strings.Contains(got, "weak_evidence") {
		t.Errorf("got %s", got)
	}
}
