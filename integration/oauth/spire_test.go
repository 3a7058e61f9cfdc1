// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package oauth

import (
	"testing"

	"github.com/egret-proxy/egret/integration/internal/testbed"
)

// spireWorld has a SPIRE, whose one workload is the user of this test.
func spireWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.socket = testbed.StartSPIRE(t, "../spire/build.sh", w.file("spire"), workload.String()).Address()
	w.serveIssuer()
	return w
}

// TestSVIDsOfARealSPIRE: what a real agent gives is what a real server takes.
func TestSVIDsOfARealSPIRE(t *testing.T) {
	w := spireWorld(t)
	for _, name := range []string{"token_exchange", "jwt_bearer", "mtls"} {
		w.sub(name, func(t *testing.T) {
			e := w.run(cases()[name])
			defer e.Stop()
			if !w.active(e.bearer()) {
				t.Error("the issuer does not know the token")
			}
		})
	}
	w.sub("tampered", func(t *testing.T) { tampered(t, w) })
}
