// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/identity/embedded"
	"github.com/egret-proxy/egret/identity/kernel"
)

// TestJobIsKnownByProcess wherever the kernel can say who connects; elsewhere the demo
// says why not, and credits the listener's callers as a sidecar does.
func TestJobIsKnownByProcess(t *testing.T) {
	t.Parallel()
	d := &Demo{dir: t.TempDir()}
	if err := d.probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := kernel.FindCgroups(); (err == nil) != (d.callers.missing == nil) {
		t.Errorf("cgroup v2: %v; probe: %v", err, d.callers.missing)
	}
	if _, err := os.Stat(filepath.Join(d.dir, "probe", "agent.sock")); err == nil {
		t.Error("the probe has left its socket")
	}
	for name, tt := range map[string]struct {
		missing    error
		says, want string
	}{
		"process": {nil, "what the kernel says", "process: {attestor: embedded"},
		"sidecar": {errors.New("no cgroups"), "as in a pod (by process it cannot be told here: no cgroups)", "sidecar: {sameUser: "},
	} {
		d.callers.missing = tt.missing
		got := d.settings()
		if !strings.Contains(got, tt.want) || !strings.Contains(d.callers.String(), tt.says) || strings.Contains(got, "entries") != (tt.missing == nil) {
			t.Errorf("%s: %s, %s", name, d.callers, got)
		}
	}
}

// TestStrangersAreNotTheJob: the probe takes nobody's word for who it is.
func TestStrangersAreNotTheJob(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("processes are known on Linux")
	}
	if err := knows(t.Context(), refuses{}); !errors.Is(err, identity.ErrUnknown) {
		t.Errorf("got %v", err)
	}
}

type refuses struct{}

func (refuses) Resolve(context.Context, identity.Peer) (identity.Caller, error) {
	return nil, identity.ErrUnknown
}

// TestBundlesComeWithTheIssuer: until then no login is believed.
func TestBundlesComeWithTheIssuer(t *testing.T) {
	t.Parallel()
	td := spiffeid.RequireTrustDomainFromString("acme.example")
	var b bundles
	if _, err := b.GetJWTBundleForTrustDomain(td); err == nil {
		t.Error("a bundle from nowhere")
	}
	i, err := embedded.New(embedded.Options{TrustDomain: td})
	if err != nil {
		t.Fatal(err)
	}
	b.issuer.Store(i)
	if got, err := b.GetJWTBundleForTrustDomain(td); err != nil || got.Empty() {
		t.Errorf("got %v, %v", got, err)
	}
}
