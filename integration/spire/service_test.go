// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package spire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/egret-proxy/egret/integration/internal/testbed"
	"github.com/egret-proxy/egret/internal/saas"
)

// service is a running `egret run` with a listener for each way to ask the agent.
type service struct {
	*testbed.Egret
	t    *testing.T
	dir  string // every user may read what clients trust
	uid  uint32
	echo *saas.Echo
}

const settings = `listeners:
  - {name: delegated, address: "127.0.0.1:0", kind: forward, identify: {process: {attestor: delegated, hybrid: true}}}
  - {name: broker, address: "127.0.0.1:0", kind: forward, identify: {process: {attestor: broker, hybrid: true}}}
%[2]sspiffe:
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

// bobsToo gives bob a credential of his own.
const bobsToo = `---
apiVersion: egret.dev/v1alpha1
kind: Credential
metadata: {name: bobs}
spec:
  owner: qa@example.org
  environment: production
  destinations: [echo]
  usableBy: ["spiffe://example.org/bob"]
  provider: {static: {value: {file: %q}}}
  inject: [{header: Authorization, value: "Bearer {token}"}]
---
apiVersion: egret.dev/v1alpha1
kind: AccessPolicy
metadata: {name: bobs-reads}
spec:
  owner: qa@example.org
  workload: bob
  destination: echo
  credential: bobs
  allow: [{methods: [GET], paths: [/**]}]
  expires: 2090-12-31
`

// The keys of the two.
const (
	aliceKey = "a-key-of-alice"
	bobKey   = "a-key-of-bob"
)

// setup says how egret is run. The zero value is as root, with alice's policy.
type setup struct {
	uid       uint32 // and gid, without any privilege
	listeners string // more of them
	bobsToo   bool
}

// egret builds the program, registers it and runs it until the test's end.
func (w *world) egret(o setup) *service {
	w.t.Helper()
	s := &service{t: w.t, uid: o.uid}
	var err error
	if s.dir, err = os.MkdirTemp("", "egret-run-"); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = os.RemoveAll(s.dir) })
	if err := os.Chmod(s.dir, 0o755); err != nil {
		w.t.Fatal(err)
	}
	bin := s.file("egret")
	if err := testbed.BuildEgret(bin, fmt.Sprintf("-race=%t", raced)); err != nil {
		w.t.Fatal(err)
	}
	s.twin(w, o)
	s.give()
	w.entry(egret, uidSelector(o.uid), "unix:path:"+bin)
	s.Egret = testbed.Start(w.t, s.command("run"))
	return s
}

// command is egret as it is run, with a verb.
func (s *service) command(verb ...string) *exec.Cmd {
	cmd := exec.Command(s.file("egret"), append(verb, "-c", s.file("egret.yaml"))...)
	cmd.Dir, cmd.Env = s.dir, []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + s.dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if s.uid != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: s.uid, Gid: s.uid}
	}
	return cmd
}

// give makes egret's user the owner of egret's files.
func (s *service) give() {
	s.t.Helper()
	files, err := filepath.Glob(s.file("*"))
	for _, f := range append(files, s.dir) {
		err = errors.Join(err, os.Chown(f, int(s.uid), int(s.uid)))
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// await waits until egret serves, and gives clients what they trust.
func (s *service) await() *service {
	s.t.Helper()
	s.Await()
	bundle, err := os.ReadFile(s.file("ca.pem"))
	if err == nil {
		err = os.WriteFile(s.file("public.pem"), bundle, 0o644)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return s
}

// twin starts the upstream and writes settings, policy and the key.
func (s *service) twin(w *world, o setup) {
	s.t.Helper()
	s.echo = saas.NewEcho(saas.EchoConfig{})
	ca, err := saas.NewCA()
	if err != nil {
		s.t.Fatal(err)
	}
	up, err := saas.Listen(ca, saas.Host{Name: "api.example.com", Handler: s.echo})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = up.Close() })
	policy := fmt.Sprintf(policyText, up.Addr(), s.file("twin.pem"), s.file("key"))
	if o.bobsToo {
		policy += fmt.Sprintf(bobsToo, s.file("bobs"))
	}
	for name, text := range map[string]string{
		"twin.pem": string(ca.PEM()), "key": aliceKey + "\n", "bobs": bobKey + "\n",
		"egret.yaml": fmt.Sprintf(settings, w.dir, o.listeners), "policy.yaml": policy,
	} {
		if err := os.WriteFile(s.file(name), []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *service) file(name string) string { return filepath.Join(s.dir, name) }

// get has a program ask through a listener and returns the status and the decision, or
// what went wrong.
func (s *service) get(p *program, listener string) string {
	s.t.Helper()
	return s.ask(p, "get", "http://"+s.Address(listener), "https://api.example.com/", s.file("public.pem"))
}

// ask gives a program a command and returns its answer.
func (s *service) ask(p *program, command ...any) string {
	s.t.Helper()
	answer, err := p.ask(command...)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer
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

func (s *service) examined(cmd *exec.Cmd) findings {
	s.t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var all struct{ Findings findings }
	if bad := json.Unmarshal(out, &all); bad != nil {
		s.t.Fatalf("doctor: %v, %v: %s%s", err, bad, out, stderr.Bytes())
	}
	return all.Findings
}
