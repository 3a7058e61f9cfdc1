// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/identity/embedded"
)

// TestStartWithoutWorkloadAPI: refused and told why, until it comes; then ready by itself.
func TestStartWithoutWorkloadAPI(t *testing.T) {
	t.Parallel()
	w := newWorld(t, embedded.Options{})
	w.StopIdentity()
	e := start(t, w)
	c := e.client("sidecar")
	eventually(t, "the refusal", func() bool { return ask(t, c, projects).is("identity", "source_unavailable") })
	status, text := e.page("/readyz")
	if status != http.StatusServiceUnavailable || !strings.Contains(text, "identity: failed: ") || !strings.Contains(text, "has not answered yet") {
		t.Errorf("/readyz: %d %s", status, text)
	}
	eventually(t, "the warning", func() bool { return strings.Contains(e.log.String(), "not ready: every caller is refused") })
	check(t, w.ServeIdentity())
	e.ready()
	eventually(t, "readiness", func() bool { status, _ := e.page("/readyz"); return status == http.StatusOK })
	if got := ask(t, c, projects); got.status != http.StatusOK {
		t.Errorf("once it is there: %+v", got)
	}
}

// TestWorkloadAPIGoesAndComesBack: egret goes on until its SVID ends, refuses then, and
// recovers by itself.
func TestWorkloadAPIGoesAndComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, embedded.Options{X509TTL: 4 * time.Second})
	e := start(t, w).ready()
	c := e.client("sidecar")
	if got := ask(t, c, projects); got.status != http.StatusOK {
		t.Fatalf("%+v", got)
	}
	w.StopIdentity()
	gone, served := time.Now(), 0
	for !ask(t, c, projects).is("identity", "svid_expired") {
		if served++; time.Since(gone) > 10*time.Second {
			t.Fatal("callers are served without an identity")
		}
		time.Sleep(50 * time.Millisecond)
	}
	if served == 0 {
		t.Error("nobody was served although the SVID had not ended")
	}
	if status, text := e.page("/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(text, "has not renewed it") {
		t.Errorf("/readyz: %d %s", status, text)
	}
	check(t, w.ServeIdentity())
	eventually(t, "the recovery", func() bool { return ask(t, c, projects).status == http.StatusOK })
}

// TestRotationDropsNothing: SVIDs are renewed twice under one connection and one
// request.
func TestRotationDropsNothing(t *testing.T) {
	t.Parallel()
	w := volumeWorldOf(t, embedded.Options{X509TTL: 40 * time.Second})
	e := start(t, w).ready()
	c := e.client("sidecar")
	first, err := e.source.SVID()
	check(t, err)
	if got := ask(t, c, "https://api.pagerduty.com/"); got.status != http.StatusOK {
		t.Fatalf("%+v", got)
	}
	slow := make(chan answer, 1)
	go func() { slow <- ask(t, c, "https://api.pagerduty.com/slow/1s") }()
	for range 2 {
		check(t, w.Issuer.Rotate())
	}
	eventually(t, "the renewed SVID", func() bool {
		now, err := e.source.SVID()
		return err == nil && !now.Certificates[0].Equal(first.Certificates[0])
	})
	if got := <-slow; got.status != http.StatusOK {
		t.Errorf("the request in flight: %+v", got)
	}
	reused := false
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused },
	}), http.MethodGet, "https://api.pagerduty.com/", nil)
	check(t, err)
	resp, err := c.Do(req)
	check(t, err)
	check(t, resp.Body.Close())
	if !reused || resp.StatusCode != http.StatusOK {
		t.Errorf("the connection was reused: %v, status %d", reused, resp.StatusCode)
	}
}
