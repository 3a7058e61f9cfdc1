// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"crypto/tls"
	"encoding/hex"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/egret-proxy/egret/audit"
)

// A real curl that does not trust the CA: with OpenSSL 3 and TLS 1.3 its alert comes in
// the clear, which crypto/tls takes for "bad record MAC".
func TestCurlWithoutOurCAIsCountedAsUntrusted(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("no curl: ", err)
	}
	w := newWorld(t)
	roots := filepath.Join(t.TempDir(), "other.pem") // roots that are not ours
	if err := os.WriteFile(roots, w.ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, version := range []string{"1.2", "1.3"} {
		cmd := exec.CommandContext(t.Context(), curl, "-q", "-sS", "--cacert", roots, "--tls-max", version,
			"--proxy", "http://"+w.addr["sidecar"], "https://"+echoHost+"/")
		cmd.Env = []string{"HOME=" + t.TempDir()}
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "certificate") {
			t.Fatalf("TLS %s: curl trusts us, or failed otherwise: %v %s", version, err, out)
		}
		r := w.wait(i+1, func(r record) bool { return r.Kind == audit.KindHandshake })[i]
		if r.Layer+"/"+r.Reason != string(reasonClientTrust) || r.Verdict != "deny" || r.Workload != jobID {
			t.Errorf("TLS %s: record %+v", version, r)
		}
	}
	if n := testutil.ToFloat64(w.srv.metrics.distrust.WithLabelValues("dashboard")); n != 2 {
		t.Errorf("counted %v", n)
	}
}

// lastBytes sees the alert however the bytes are cut into reads, and nothing else.
func TestAlertInTheClear(t *testing.T) {
	for in, want := range map[string]uint8{
		"15030300020230":              48,
		"140303000101 15030300020230": 48,
		"1503030002022a":              42,
		"1503030002012e":              46,
		"15030300020330":              0, // no such level
		"16030300020230":              0, // a handshake record
		"15030300030230":              0, // longer
		"1503030002023000":            0, // something follows
		"":                            0,
		"0230":                        0,
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(in, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		for step := 1; step <= len(b)+1; step++ {
			var l lastBytes
			for rest := b; len(rest) > 0; rest = rest[min(step, len(rest)):] {
				l.keep(rest[:min(step, len(rest))])
			}
			if got := l.alert(); got != want {
				t.Errorf("%s in reads of %d: %d, want %d", in, step, got, want)
			}
		}
	}
}

func TestRefine(t *testing.T) {
	bad := errors.New("local error: tls: bad record MAC")
	said := lastBytes{21, 3, 3, 0, 2, 2, alertUnknownCA}
	for name, tc := range map[string]struct {
		last lastBytes
		err  error
		want string
	}{
		"unknown CA":          {said, bad, string(reasonClientTrust)},
		"no alert":            {lastBytes{}, bad, string(reasonClientTLS)},
		"another alert":       {lastBytes{21, 3, 3, 0, 2, 2, alertNoALPN}, bad, string(reasonClientTLS)},
		"another error":       {said, errors.New("tls: first record does not look like a TLS handshake"), string(reasonClientTLS)},
		"known to crypto/tls": {said, &net.OpError{Op: "remote error", Err: tls.AlertError(alertUnknownCA)}, string(reasonClientTrust)},
	} {
		if got := classifyClient(tc.last.refine(tc.err)); string(got.reason) != tc.want {
			t.Errorf("%s: %s", name, got.reason)
		}
	}
}
