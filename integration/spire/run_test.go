// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package spire

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/egret-proxy/egret/internal/saas"
)

// service is a running `egret run` with a listener for each way to ask the agent.
type service struct {
	t       *testing.T
	dir     string // every user may read what clients trust
	cmd     *exec.Cmd
	done    chan struct{}
	ready   chan struct{}
	mu      sync.Mutex
	log     bytes.Buffer
	address map[string]string // by listener
}

const settings = `listeners:
  - {name: delegated, address: "127.0.0.1:0", kind: forward, identify: {process: {attestor: delegated, hybrid: true}}}
  - {name: broker, address: "127.0.0.1:0", kind: forward, identify: {process: {attestor: broker, hybrid: true}}}
spiffe:
  workloadAPI: unix://%[1]s/api/api.sock
  id: spiffe://example.org/egret
  trustDomains: [example.org]
  delegated: {socket: "unix://%[1]s/admin/admin.sock"}
  broker: {socket: "unix://%[1]s/broker/broker.sock"}
certs: {issuer: {ephemeral: {bundle: ca.pem}}}
policy: {paths: [{path: policy.yaml}]}
audit: {file: audit.jsonl}
log: {format: json, level: debug}
limits: {drain: 2s}
`

// Only alice may do anything; bob is known.
const policyText = `apiVersion: egret.dev/v1alpha1
kind: Destination
metadata: {name: echo}
spec: {hosts: [api.example.com], dial: %q, allowPrivate: [127.0.0.0/8], tls: {roots: %q}}
---
apiVersion: egret.dev/v1alpha1
kind: Credential
metadata: {name: token}
spec:
  owner: qa@example.org
  environment: production
  destinations: [echo]
  usableBy: ["spiffe://example.org/alice"]
  provider: {static: {value: {file: %q}}}
  inject: [{header: Authorization, value: "Bearer {token}"}]
---
apiVersion: egret.dev/v1alpha1
kind: Workload
metadata: {name: alice}
spec: {spiffeID: "spiffe://example.org/alice", owner: qa@example.org, purpose: tests, environment: production}
---
apiVersion: egret.dev/v1alpha1
kind: Workload
metadata: {name: bob}
spec: {spiffeID: "spiffe://example.org/bob", owner: qa@example.org, purpose: tests, environment: production}
---
apiVersion: egret.dev/v1alpha1
kind: AccessPolicy
metadata: {name: reads}
spec:
  owner: qa@example.org
  workload: alice
  destination: echo
  credential: token
  allow: [{methods: [GET], paths: [/**]}]
  expires: 2090-12-31
`

// egret builds the program, registers it and runs it until the test's end.
func (w *world) egret() *service {
	w.t.Helper()
	s := &service{t: w.t, done: make(chan struct{}), ready: make(chan struct{}), address: map[string]string{}}
	var err error
	if s.dir, err = os.MkdirTemp("", "egret-run-"); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = os.RemoveAll(s.dir) })
	if err := os.Chmod(s.dir, 0o755); err != nil {
		w.t.Fatal(err)
	}
	bin := s.file("egret")
	if out, err := exec.Command("go", "build", "-o", bin, "../../cmd/egret").CombinedOutput(); err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
	s.twin(w)
	w.entry(egret, "unix:uid:0", "unix:path:"+bin)
	s.cmd = exec.Command(bin, "run", "-c", s.file("egret.yaml"))
	s.cmd.Dir, s.cmd.SysProcAttr = s.dir, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := s.cmd.StderrPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	go s.follow(out)
	w.t.Cleanup(s.stop)
	select {
	case <-s.ready:
	case <-s.done:
		w.t.Fatal("egret ended")
	case <-time.After(60 * time.Second):
		w.t.Fatal("egret is not ready after 60 s")
	}
	return s
}

// twin starts the upstream and writes settings, policy and the key.
func (s *service) twin(w *world) {
	s.t.Helper()
	ca, err := saas.NewCA()
	if err != nil {
		s.t.Fatal(err)
	}
	up, err := saas.Listen(ca, saas.Host{Name: "api.example.com", Handler: saas.NewEcho(saas.EchoConfig{})})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = up.Close() })
	for name, text := range map[string]string{
		"twin.pem": string(ca.PEM()), "key": "a-key-of-alice\n", "egret.yaml": fmt.Sprintf(settings, w.dir),
		"policy.yaml": fmt.Sprintf(policyText, up.Addr(), s.file("twin.pem"), s.file("key")),
	} {
		if err := os.WriteFile(s.file(name), []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *service) file(name string) string { return filepath.Join(s.dir, name) }

// follow reads egret's log to its end.
func (s *service) follow(r io.Reader) {
	defer close(s.done)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var l struct{ Msg, Listener, Address string }
		_ = json.Unmarshal(lines.Bytes(), &l)
		s.mu.Lock()
		s.log.WriteString(lines.Text() + "\n")
		if l.Msg == "listening" {
			s.address[l.Listener] = l.Address
		}
		s.mu.Unlock()
		if l.Msg == "ready" {
			close(s.ready)
		}
	}
}

func (s *service) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(30*time.Second, func() { _ = s.cmd.Process.Kill() })
	<-s.done
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("egret: %v", err)
	}
	late.Stop()
	if s.t.Failed() {
		s.t.Logf("egret's log:\n%s\nits records:\n%s", s.log.String(), s.records())
	}
}

func (s *service) records() string {
	b, _ := os.ReadFile(s.file("audit.jsonl"))
	return string(b)
}

// get has a program ask through a listener and returns the status and the decision, or
// what went wrong.
func (s *service) get(p *program, listener string) string {
	s.t.Helper()
	s.mu.Lock()
	at := s.address[listener]
	s.mu.Unlock()
	if _, err := fmt.Fprintln(p.in, "get", "http://"+at, "https://api.example.com/", s.file("public.pem")); err != nil {
		s.t.Fatal(err)
	}
	line, err := p.out.ReadString('\n')
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// becomes waits for an answer, as long as the agent takes to learn of an entry.
func (s *service) becomes(p *program, listener, want string) {
	s.t.Helper()
	begin, got := time.Now(), ""
	for time.Since(begin) < 30*time.Second {
		if got = s.get(p, listener); strings.Contains(got, want) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.t.Fatalf("%s: %s, want %s", listener, got, want)
}

func (s *service) recorded(texts ...string) bool {
	for l := range strings.SplitSeq(s.records(), "\n") {
		has := true
		for _, x := range texts {
			has = has && strings.Contains(l, x)
		}
		if has {
			return true
		}
	}
	return false
}

// TestEgretRun: the program itself, with callers of three users through one listener for
// each API of the agent. The agent restarts, and an entry is deleted.
func TestEgretRun(t *testing.T) {
	w := newWorld(t)
	entry := w.entry(alice, uidSelector(aliceUID))
	w.entry(bob, uidSelector(bobUID))
	s := w.egret()
	bundle, err := os.ReadFile(s.file("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.file("public.pem"), bundle, 0o644); err != nil {
		t.Fatal(err)
	}
	one, two := run(t, aliceUID, group(t, "run-one")), run(t, bobUID, group(t, "run-two"))
	stranger := run(t, carolUID, group(t, "run-three"))
	listeners := []string{"delegated", "broker"}
	for _, l := range listeners {
		s.becomes(one, l, "200 ")
		s.becomes(two, l, "policy; reason=no_policy")
		if got := s.get(stranger, l); !strings.Contains(got, "identity/svid_revoked") {
			t.Errorf("%s: a user without an entry: %s", l, got)
		}
		at, process := `"listener":"`+l+`"`, `"evidence":"process"`
		w.await("the records of "+l, func() bool {
			return s.recorded(at, process, `"workload":"`+alice.String()+`"`, `"verdict":"allow"`) &&
				s.recorded(at, process, `"workload":"`+bob.String()+`"`, `"reason":"no_policy"`) &&
				s.recorded(at, `"reason":"svid_revoked"`, fmt.Sprint(carolUID))
		})
	}
	w.stop(&w.agent)
	for _, l := range listeners {
		if got := s.get(one, l); !strings.HasPrefix(got, "200 ") {
			t.Errorf("%s: while the agent is away: %s", l, got)
		}
	}
	w.startAgent()
	late := run(t, aliceUID, group(t, "run-four"))
	for _, l := range listeners {
		if got := s.get(one, l); !strings.HasPrefix(got, "200 ") {
			t.Errorf("%s: after the agent's restart: %s", l, got)
		}
		s.becomes(late, l, "200 ")
	}
	w.remove(entry)
	begin := time.Now()
	for _, l := range listeners {
		s.becomes(one, l, "identity/svid_revoked")
		t.Logf("%s: refused within %v of the entry's end", l, time.Since(begin).Round(time.Millisecond))
		s.becomes(late, l, "identity/svid_revoked")
		s.becomes(two, l, "policy; reason=no_policy")
	}
}
