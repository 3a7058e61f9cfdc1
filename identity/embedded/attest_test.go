// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/egret-proxy/egret/identity/kernel"
)

// myself is this process as a workload.
func myself(t *testing.T) Workload {
	t.Helper()
	p, err := kernel.Open(os.Getpid())
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	f, err := p.Facts()
	if err != nil {
		t.Fatal(err)
	}
	return Workload{Process: p, Facts: f, Exact: true, Cgroup: "/system.slice/nightly.service/inner"}
}

func TestEntryMatches(t *testing.T) {
	w := myself(t)
	exe, err1 := w.Process.Executable()
	digest, err2 := w.Process.SHA256()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	copied := filepath.Join(t.TempDir(), "copied")
	b, err := os.ReadFile(exe.Path)
	if err := errors.Join(err, os.Link(exe.Path, link), os.WriteFile(copied, b, 0o755)); err != nil {
		t.Skip(err)
	}
	coarse := func(w Workload) Workload { w.Exact = false; return w }
	unheld := func(w Workload) Workload { w.Process = nil; return w }
	tests := []struct {
		name string
		e    Entry
		w    Workload
		want bool
	}{
		{"user", Entry{}, w, true},
		{"another user", Entry{UIDs: []uint32{w.Facts.UID + 1}}, w, false},
		{"user, over TCP", Entry{}, coarse(w), true},
		{"group", Entry{GIDs: []uint32{7777, w.Facts.GID}}, w, true},
		{"another group", Entry{GIDs: []uint32{w.Facts.GID + 1}}, w, false},
		{"group, over TCP", Entry{GIDs: []uint32{w.Facts.GID}}, coarse(w), false},
		{"path", Entry{Path: exe.Path}, w, true},
		{"path, over TCP", Entry{Path: exe.Path}, coarse(w), false},
		{"path, nobody held", Entry{Path: exe.Path}, unheld(w), false},
		{"another name of the file", Entry{Path: link}, w, false},
		{"a copy of the file", Entry{Path: copied}, w, false},
		{"a path without a file", Entry{Path: "/nowhere"}, w, false},
		{"digest", Entry{SHA256: digest}, w, true},
		{"digest, over TCP", Entry{SHA256: digest}, coarse(w), false},
		{"another digest", Entry{SHA256: strings.Repeat("0", 64)}, w, false},
		{"path and another digest", Entry{Path: exe.Path, SHA256: strings.Repeat("0", 64)}, w, false},
		{"cgroup", Entry{Cgroup: "/system.slice/nightly.service/inner"}, w, true},
		{"cgroup above", Entry{Cgroup: "/system.slice/nightly.service"}, w, true},
		{"cgroup, over TCP", Entry{Cgroup: "/system.slice/nightly.service"}, coarse(w), true},
		{"cgroup of a like name", Entry{Cgroup: "/system.slice/nightly"}, w, false},
		{"cgroup below", Entry{Cgroup: "/system.slice/nightly.service/inner/most"}, w, false},
		{"unit", Entry{Unit: "nightly.service"}, w, true},
		{"unit, over TCP", Entry{Unit: "nightly.service"}, coarse(w), true},
		{"another unit", Entry{Unit: "inner.service"}, w, false},
		{"all", Entry{GIDs: []uint32{w.Facts.GID}, Path: exe.Path, SHA256: digest, Cgroup: "/system.slice", Unit: "nightly.service"}, w, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.e.ID = app
			if len(tt.e.UIDs) == 0 {
				tt.e.UIDs = []uint32{w.Facts.UID}
			}
			if err := tt.e.check(); err != nil {
				t.Fatal(err)
			}
			if got := tt.e.matches(tt.w); got != tt.want {
				t.Errorf("matches = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestUnitOf(t *testing.T) {
	for cgroup, want := range map[string]string{
		"/system.slice/nightly.service":                                     "nightly.service",
		"/system.slice/system-getty.slice/getty@tty1.service":               "getty@tty1.service",
		"/system.slice/nightly.service/x.service":                           "nightly.service",
		"/user.slice/user-1.slice/user@1.service/app.slice/nightly.service": "user@1.service",
		"/user.slice/user-1.slice/session-2.scope":                          "session-2.scope",
		"/init.scope":                   "init.scope",
		"/system.slice/_cgroup.service": "cgroup.service",
		"/system.slice/_.service":       "",
		"/mine/nightly.service":         "", // nobody but systemd makes units, and those at the top
		"/system.slice":                 "",
		"/":                             "",
		"":                              "",
	} {
		if got := unitOf(cgroup); got != want {
			t.Errorf("%s: got %q, want %q", cgroup, got, want)
		}
	}
}

// FuzzUnitOf: whatever a service makes below its own group, it stays that service.
func FuzzUnitOf(f *testing.F) {
	f.Add("x.service")
	f.Add("../other.service")
	f.Fuzz(func(t *testing.T, below string) {
		if got := unitOf("/system.slice/nightly.service/" + below); got != "nightly.service" {
			t.Errorf("%q: got %q", below, got)
		}
	})
}

func TestListenRefusesEntries(t *testing.T) {
	i := newIssuer(t, Options{})
	for want, e := range map[string]Entry{
		`path "bin/a", must be absolute`:       {Path: "bin/a"},
		`sha256 "AB", must be 64`:              {SHA256: "AB"},
		`must be 64 lower-case hex digits`:     {SHA256: strings.Repeat("A", 64)},
		`cgroup "a/b", must be a path below /`: {Cgroup: "a/b"},
		`cgroup "/", must be`:                  {Cgroup: "/"},
		`cgroup "/a/", must be`:                {Cgroup: "/a/"},
		`cgroup "/a/../b", must be`:            {Cgroup: "/a/../b"},
		`unit "nightly", must be`:              {Unit: "nightly"},
		`unit "a/b.service", must be`:          {Unit: "a/b.service"},
		`unit "x.slice", must be`:              {Unit: "x.slice"},
	} {
		e.ID = app
		if s, err := i.Listen(filepath.Join(t.TempDir(), "api", "s"), e); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, %v; want %q", s, err, want)
		}
	}
}

// TestWorkloadAPIAttestsTheProcess: at the socket, with go-spiffe's own client.
func TestWorkloadAPIAttestsTheProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("it needs Linux")
	}
	w := myself(t)
	exe, err := w.Process.Executable()
	if err != nil {
		t.Fatal(err)
	}
	i := newIssuer(t, Options{Shared: true})
	good := client(t, serve(t, i, Entry{ID: app, Path: exe.Path, GIDs: []uint32{w.Facts.GID}}))
	if svid, err := good.FetchX509SVID(t.Context()); err != nil || svid.ID != app {
		t.Errorf("this program: %v, %v", svid, err)
	}
	if svid, err := good.FetchJWTSVID(t.Context(), jwtsvid.Params{Audience: "a"}); err != nil || svid.ID != app {
		t.Errorf("this program: %v, %v", svid, err)
	}
	bad := client(t, serve(t, i, Entry{ID: app, Path: "/bin/sh"}))
	if svid, err := bad.FetchX509SVID(t.Context()); status.Code(err) != codes.PermissionDenied {
		t.Errorf("another program: %v, %v", svid, err)
	}
}

func TestSharedSocket(t *testing.T) {
	i := newIssuer(t, Options{Shared: true})
	dir := filepath.Join(t.TempDir(), "api")
	s, err := i.Listen(filepath.Join(dir, "s"), Entry{ID: app})
	if err != nil {
		t.Fatal(err)
	}
	s.grpc.Stop()
	_ = s.listener.Close()
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("folder: %v, %v", info.Mode(), err)
	}
	if err := os.Chmod(dir, 0o775); err != nil {
		t.Fatal(err)
	}
	if _, err := i.Listen(filepath.Join(dir, "s"), Entry{ID: app}); err == nil {
		t.Error("a folder that others may write into is accepted")
	}
}

func TestServerWatch(t *testing.T) {
	w := myself(t)
	i := newIssuer(t, Options{})
	s, err := i.Listen(filepath.Join(t.TempDir(), "api", "s"), Entry{ID: app, Hint: "h"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.grpc.Stop()
	defer s.listener.Close()
	answers := make(chan []*x509svid.SVID)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- s.Watch(ctx, w, func(v []*x509svid.SVID) error { answers <- v; return nil })
	}()
	first := <-answers
	if len(first) != 1 || first[0].ID != app || first[0].Hint != "h" {
		t.Fatalf("got %v", first)
	}
	if err := i.Rotate(); err != nil {
		t.Fatal(err)
	}
	if next := <-answers; len(next) != 1 || next[0].Certificates[0].Equal(first[0].Certificates[0]) {
		t.Errorf("after a rotation: %v", next)
	}
	if token, ends, err := s.JWTSVID(w, app, "a"); err != nil || token.IsZero() || !ends.After(time.Now()) {
		t.Errorf("JWT-SVID: %v, %v", ends, err)
	}
	if _, _, err := s.JWTSVID(w, app, ""); err == nil {
		t.Error("a token for nobody")
	}
	i.RemoveEntry(app)
	// RemoveEntry finds servers that Listen has made.
	if last := <-answers; len(last) != 0 {
		t.Errorf("after its entry: %v", last)
	}
	if token, _, err := s.JWTSVID(w, app, "a"); !errors.Is(err, ErrDenied) || !token.IsZero() {
		t.Errorf("after its entry: %v", err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Watch: %v", err)
	}
	stop := errors.New("enough")
	if err := s.Watch(t.Context(), w, func([]*x509svid.SVID) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Watch: %v", err)
	}
}

func TestFederateRefuses(t *testing.T) {
	enemy := spiffeid.RequireTrustDomainFromString("enemy.example")
	i, other := newIssuer(t, Options{}), newIssuer(t, Options{TrustDomain: enemy})
	ours, _ := i.Bundles().GetX509BundleForTrustDomain(i.TrustDomain())
	theirs, _ := other.Bundles().GetX509BundleForTrustDomain(enemy)
	jwt, _ := i.Bundles().GetJWTBundleForTrustDomain(i.TrustDomain())
	for name, f := range map[string]Federated{
		"nothing": {}, "our own": {X509: ours}, "of two": {X509: theirs, JWT: jwt},
	} {
		if err := i.Federate(f); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
