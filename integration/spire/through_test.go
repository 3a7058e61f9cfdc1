// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package spire

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/egret-proxy/egret/internal/secret"
)

// TestRevokedThroughEgret: what is asked later than 1 s after the agent has told of an
// entry's end is refused, on new connections and on one that is kept, whichever API the
// listener asks.
func TestRevokedThroughEgret(t *testing.T) {
	w := newWorld(t)
	entry := w.entry(alice, uidSelector(aliceUID))
	s := w.egret(setup{}).await()
	programs := map[string]*program{}
	for _, l := range []string{"delegated", "broker"} {
		p := run(t, aliceUID, group(t, "revoked-"+l))
		s.becomes(p, l, "200 ")
		if got := s.again(p, l); !strings.HasPrefix(got, "200 ") {
			t.Fatalf("%s: %s", l, got)
		}
		programs[l] = p
	}
	dropped := w.watchEntry(programs["delegated"])
	w.remove(entry)
	var told atomic.Pointer[time.Time]
	go func() { at := <-dropped; told.Store(&at) }()
	for left := map[string]bool{"delegated": true, "broker": true}; len(left) > 0; time.Sleep(5 * time.Millisecond) {
		for l := range left {
			asked := time.Now()
			once, again := s.get(programs[l], l), s.again(programs[l], l)
			at := told.Load()
			refused := strings.Contains(once, "identity/svid_revoked") && strings.Contains(again, "reason=svid_revoked")
			switch {
			case refused && at != nil:
				t.Logf("%s: refused %v after the agent told of it", l, time.Since(*at).Round(time.Millisecond))
				delete(left, l)
			case refused: // egret was told first
			case at != nil && asked.Sub(*at) > time.Second:
				t.Fatalf("%s: asked %v after the agent told of it: %q, kept connection: %q", l, asked.Sub(*at), once, again)
			}
		}
	}
}

// again asks on the connection that the program keeps.
func (s *service) again(p *program, listener string) string {
	s.t.Helper()
	return s.ask(p, "again", "http://"+s.Address(listener), "https://api.example.com/", s.file("public.pem"))
}

// TestTenThousandThroughEgret: as TestTenThousandConnections, from the program's socket
// to the key that the upstream is shown, by both APIs at once.
func TestTenThousandThroughEgret(t *testing.T) {
	w := newWorld(t)
	w.entry(alice, uidSelector(aliceUID))
	w.entry(bob, uidSelector(bobUID))
	s := w.egret(setup{bobsToo: true}).await()
	groups := []string{group(t, "through-one"), group(t, "through-two")}
	for _, l := range []string{"delegated", "broker"} {
		s.becomes(run(t, aliceUID, groups[0]), l, "200 ")
		s.becomes(run(t, bobUID, groups[1]), l, "200 ")
	}
	begin, c := time.Now(), &tally{answers: map[uint32]map[string]int{}}
	const programs, batches, each = 6, 17, 100
	var workers sync.WaitGroup
	for n := range programs {
		uid, listener := []uint32{aliceUID, bobUID, carolUID}[n%3], []string{"delegated", "broker"}[n/3]
		workers.Go(func() {
			for batch := range batches {
				if err := c.run(s, uid, groups[(n+batch)%2], listener, each); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	workers.Wait()
	t.Logf("%d connections in %v: %v", programs*batches*each, time.Since(begin).Round(time.Millisecond), c.answers)
	keys := map[uint32]string{aliceUID: secret.New(aliceKey).Fingerprint(), bobUID: secret.New(bobKey).Fingerprint()}
	c.check(t, keys)
	s.checkUpstream(keys)
	s.checkRecords(map[string]string{alice.String(): keys[aliceUID], bob.String(): keys[bobUID]})
}

// tally counts the answers that programs of each user got.
type tally struct {
	mu      sync.Mutex
	answers map[uint32]map[string]int
}

func (c *tally) run(s *service, uid uint32, group, listener string, count int) error {
	p, err := launch(uid, group)
	if err != nil {
		return err
	}
	defer p.stop()
	line, err := p.ask("many", "http://"+s.Address(listener), fmt.Sprintf("https://api.example.com/%d", uid), s.file("public.pem"), count, 42000, 64)
	if err != nil {
		return err
	}
	var got map[string]int
	if err := json.Unmarshal([]byte(line), &got); err != nil {
		return fmt.Errorf("%w: %s", err, line)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.answers[uid] == nil {
		c.answers[uid] = map[string]int{}
	}
	for answer, n := range got {
		answer, _, _ = strings.Cut(answer, " id=")
		c.answers[uid][answer] += n
	}
	return nil
}

// check: everyone was served with their own key, and carol never.
func (c *tally) check(t *testing.T, keys map[uint32]string) {
	t.Helper()
	for uid, answers := range c.answers {
		for answer, n := range answers {
			ok := answer == "reset" || answer == keys[uid]
			if keys[uid] == "" {
				ok = answer == "reset" || strings.Contains(answer, "svid_revoked")
			}
			if !ok {
				t.Errorf("uid %d: %d times %q", uid, n, answer)
			}
		}
	}
	if c.answers[aliceUID][keys[aliceUID]] < 1000 || c.answers[bobUID][keys[bobUID]] < 1000 {
		t.Error("too few were served")
	}
}

// checkUpstream: the upstream, too, has seen nobody's key but that of who asked.
func (s *service) checkUpstream(keys map[uint32]string) {
	s.t.Helper()
	for _, r := range s.echo.Reports() {
		for uid, key := range keys {
			if r.Path == fmt.Sprintf("/%d", uid) && r.Fingerprint != key || r.Fingerprint == key && r.Path != fmt.Sprintf("/%d", uid) && r.Path != "/" {
				s.t.Errorf("upstream: %s with key %s", r.Path, r.Fingerprint)
			}
		}
	}
}

// checkRecords: what is on record is whose key was sent, and for whom.
func (s *service) checkRecords(keys map[string]string) {
	s.t.Helper()
	took := map[string][]time.Duration{}
	for line := range strings.Lines(s.Records()) {
		var r struct {
			Kind, Workload, Verdict, Fingerprint, Evidence, Listener string

			TIdentity int64 `json:"t_identity"` // µs
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			continue // the last one may be half written
		}
		if r.Kind == "request" && r.Verdict == "allow" && (r.Fingerprint != keys[r.Workload] || r.Fingerprint == "" || r.Evidence != "process") {
			s.t.Errorf("record: %s", line)
		}
		if r.Evidence == "process" {
			took[r.Listener] = append(took[r.Listener], time.Duration(r.TIdentity)*time.Microsecond)
		}
	}
	for l, d := range took {
		slices.Sort(d)
		s.t.Logf("%s: the caller was known after %v (median), %v (99 of 100), %v (all %d)", l, d[len(d)/2], d[len(d)*99/100], d[len(d)-1], len(d))
	}
}

const egretUID = 47100

// TestUnprivileged: egret as a user of its own, with no capability at all. What it needs
// is the group of the agent's sockets; doctor says so.
func TestUnprivileged(t *testing.T) {
	w := newWorld(t)
	w.entry(alice, uidSelector(aliceUID))
	sockets := filepath.Join(w.dir, "run")
	if err := errorsOf(os.Chmod(w.dir, 0o711), os.Mkdir(sockets, 0o755), os.Chown(sockets, egretUID, egretUID)); err != nil {
		t.Fatal(err)
	}
	s := w.egret(setup{uid: egretUID, listeners: fmt.Sprintf(
		"  - {name: unix, address: \"unix://%s/p.sock\", kind: forward, identify: {process: {attestor: delegated}}}\n", sockets)}).await()
	s.hasNoPrivilege()
	p := run(t, aliceUID, group(t, "unprivileged"))
	listeners := []string{"delegated", "broker"}
	for _, l := range listeners {
		s.becomes(p, l, "identity/source_unavailable")
	}
	if got := s.doctor(); !got.has("delegated identity API", "FAIL", "permission denied", "chgrp") ||
		!got.has("SPIFFE broker API", "FAIL", "permission denied", "chgrp") {
		t.Errorf("doctor: %+v", got)
	}

	w.stop(&w.agent)
	for _, dir := range []string{"admin", "broker"} {
		dir = filepath.Join(w.dir, dir)
		if err := errorsOf(os.Chown(dir, 0, egretUID), os.Chmod(dir, 0o750|os.ModeSetgid)); err != nil {
			t.Fatal(err)
		}
	}
	w.startAgent()
	for _, l := range listeners {
		s.becomes(p, l, "200 ")
	}
	c := run(t, aliceUID, "")
	if got := s.ask(c, "unix", filepath.Join(sockets, "p.sock")); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("unix: %s", got)
	}
	if got := s.doctor(); !got.has("delegated identity API", "ok", "lets egret ask", "") || !got.has("SPIFFE broker API", "ok", "lets egret ask", "") {
		t.Errorf("doctor: %+v", got)
	}
	got := s.doctor("--pid", fmt.Sprint(p.pid))
	for _, l := range append(listeners, "unix") {
		if !got.has("caller at "+l, "ok", "says that this is "+alice.String(), "") {
			t.Errorf("doctor --pid: %+v", got)
		}
	}
	stranger := run(t, carolUID, group(t, "unprivileged-two"))
	if got := s.doctor("--pid", fmt.Sprint(stranger.pid)); !got.has("caller at broker", "warn", "would be refused", "registration entry") {
		t.Errorf("doctor --pid: %+v", got)
	}
	if got := s.doctorHidden("--pid", fmt.Sprint(p.pid)); !got.has("processes of others", "FAIL", "", "ProtectProc=default") {
		t.Errorf("doctor where /proc hides them: %+v", got)
	}
}

func errorsOf(list ...error) error {
	for _, err := range list {
		if err != nil {
			return err
		}
	}
	return nil
}

// hasNoPrivilege looks at the running egret.
func (s *service) hasNoPrivilege() {
	s.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Pid()))
	if err != nil {
		s.t.Fatal(err)
	}
	if text := string(status); !strings.Contains(text, "\nCapEff:\t0000000000000000\n") || !strings.Contains(text, fmt.Sprintf("\nUid:\t%d\t%[1]d\t%[1]d\t%[1]d\n", s.uid)) {
		s.t.Errorf("egret has privileges:\n%s", text)
	}
}

// finding is one of doctor's.
type finding struct{ Check, Level, Found, Change string }

type findings []finding

func (l findings) has(check, level, found, change string, also ...string) bool {
	return slices.ContainsFunc(l, func(f finding) bool {
		ok := f.Check == check && f.Level == level && strings.Contains(f.Found, found) && strings.Contains(f.Change, change)
		for _, a := range also {
			ok = ok && strings.Contains(f.Change, a)
		}
		return ok
	})
}

// doctor runs egret doctor as egret's user.
func (s *service) doctor(args ...string) findings {
	s.t.Helper()
	return s.examined(s.command(append([]string{"doctor", "-o", "json"}, args...)...))
}

// doctorHidden runs it where /proc shows nobody the processes of others.
func (s *service) doctorHidden(args ...string) findings {
	s.t.Helper()
	cmd := s.command(append([]string{"doctor", "-o", "json"}, args...)...)
	cmd.Args = append([]string{"sh", "-c",
		"mount -t proc -o hidepid=invisible proc /proc && exec setpriv --reuid " + fmt.Sprint(s.uid) + " --regid " + fmt.Sprint(s.uid) + ` --clear-groups "$0" "$@"`}, cmd.Args...)
	cmd.Path = "/bin/sh"
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	return s.examined(cmd)
}
