// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/identity/kernel"
)

const (
	ownSVID = "spiffe://acme.example/egret"
	nightly = "spiffe://acme.example/nightly"
)

// embeddedPlace has one listener, at which callers are known by entries.
func embeddedPlace(t *testing.T, address string, entries ...config.EmbeddedEntry) *place {
	t.Helper()
	p := newPlace(t)
	p.o.Config.Spiffe = config.Spiffe{TrustDomains: []string{"acme.example"}, Embedded: &config.Embedded{SpiffeID: ownSVID, Entries: entries}}
	p.o.Config.Listeners[0].Address = address
	p.o.Config.Listeners[0].Identify = config.Identify{Process: &config.Process{Attestor: "embedded", Hybrid: true, RootCgroup: true}}
	return p
}

// TestWhois: doctor says who a process would be, and takes the way that a listener does.
func TestWhois(t *testing.T) {
	t.Parallel()
	if _, err := kernel.FindCgroups(); err != nil {
		t.Skip(err)
	}
	const unix = "unix:///tmp/egret-doctor-none.sock"
	mine := func(id string) config.EmbeddedEntry {
		return config.EmbeddedEntry{SpiffeID: id, UIDs: []int{os.Geteuid()}}
	}
	program := mine(nightly)
	program.Path = executable(t)
	child := sleeper(t)
	for name, tc := range map[string]struct {
		address string
		entries []config.EmbeddedEntry
		edit    func(*Options)
		level   Level
		found   string
		change  string
	}{
		"tcp":     {"127.0.0.1:0", []config.EmbeddedEntry{mine(nightly)}, nil, OK, "embedded issuer says that this is " + nightly, ""},
		"unix":    {unix, []config.EmbeddedEntry{program}, nil, OK, "says that this is " + nightly, ""},
		"another": {"127.0.0.1:0", []config.EmbeddedEntry{mine(nightly)}, func(o *Options) { o.PID = child }, OK, fmt.Sprintf("process %d is known by cgroup", child), ""},
		"another program": {unix, []config.EmbeddedEntry{program}, func(o *Options) { o.PID = child }, Warn,
			"would be refused: no identity is registered for", "spiffe.embedded.entries"},
		"nobody here": {"127.0.0.1:0", []config.EmbeddedEntry{{SpiffeID: nightly, UIDs: []int{4242}}}, nil, OK, "would be refused", ""},
		"two": {"127.0.0.1:0", []config.EmbeddedEntry{mine(nightly), mine(nightly + "2")}, func(o *Options) { o.PID = child }, Warn,
			"it has 2 identities", "narrow"},
		"no Workload": {"127.0.0.1:0", []config.EmbeddedEntry{mine(nightly)}, func(o *Options) {
			o.PID, o.IsWorkload = child, func(spiffeid.ID) bool { return false }
		}, Warn, "none of its identities", "write a Workload"},
		"two, of which one is a Workload": {"127.0.0.1:0", []config.EmbeddedEntry{mine(nightly), mine(nightly + "2")}, func(o *Options) {
			o.IsWorkload = func(id spiffeid.ID) bool { return id.String() == nightly }
		}, OK, "says that this is " + nightly, ""},
		"gone": {"127.0.0.1:0", []config.EmbeddedEntry{mine(nightly)}, func(o *Options) { o.PID = 1 << 30 }, Warn, "process", "--pid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := embeddedPlace(t, tc.address, tc.entries...)
			if tc.edit != nil {
				tc.edit(&p.o)
			}
			f := find(t, Examine(t.Context(), p.o), "caller at in")
			if f.Level != tc.level || !strings.Contains(f.Found, tc.found) || !strings.Contains(f.Change, tc.change) {
				t.Errorf("%+v, want %s %q %q", f, tc.level, tc.found, tc.change)
			}
		})
	}
}

func executable(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	check(t, err)
	return self
}

// sleeper is a program that does nothing, and its PID.
func sleeper(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	check(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd.Process.Pid
}

// TestPidIsForTheKernel: at other listeners nobody but the caller can say who it is.
func TestPidIsForTheKernel(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.o.PID = os.Getpid()
	if f := find(t, Examine(t.Context(), p.o), "caller at in"); f.Level != OK || !strings.Contains(f.Found, "does not depend") {
		t.Errorf("%+v", f)
	}
}
