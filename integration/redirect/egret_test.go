// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package redirect

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// settings have a listener for each family: REDIRECT sends to the loopback of its own.
const settings = `listeners:
  - {name: v4, address: "127.0.0.1:8650", kind: transparent, identify: {sidecar: {}}}
  - {name: v6, address: "[::1]:8650", kind: transparent, identify: {sidecar: {}}}
spiffe: {trustDomains: [acme.example], embedded: {spiffeID: spiffe://acme.example/app}}
metrics: {address: "127.0.0.1:8633"}
certs: {issuer: {file: [{chain: issuer/chain.pem, key: issuer/key.pem}]}}
policy: {paths: [{path: policy.yaml}]}
audit: {file: audit.jsonl}
limits: {drain: 2s}
log: {format: json}
`

// egret is a running `egret run` in the pod, as its own user.
type egret struct {
	w    *world
	cmd  *exec.Cmd
	done chan struct{}

	mu  sync.Mutex
	log bytes.Buffer
}

// start runs egret and waits until it is ready. privileges are arguments of setpriv.
func (w *world) start(t *testing.T, text string, privileges ...string) *egret {
	t.Helper()
	w.write(t, "egret.yaml", []byte(text))
	sh(t, "chown", "-R", fmt.Sprint(egretUID), w.dir)
	sh(t, "chmod", "-R", "a+rX", w.file("trust"))
	return w.run(t, privileges...)
}

// withCgroups brings back what ip netns exec takes away with its own /sys: the hierarchy by
// which programs are told apart.
const withCgroups = `mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"`

func (w *world) run(t *testing.T, privileges ...string) *egret {
	t.Helper()
	argv := append([]string{"sh", "-c", withCgroups, "sh", "setpriv", "--reuid", fmt.Sprint(egretUID), "--regid", fmt.Sprint(egretUID), "--clear-groups"}, privileges...)
	e := &egret{w: w, done: make(chan struct{}), cmd: w.inPod(append(argv, os.Getenv(egretVar), "run", "-c", w.file("egret.yaml"))...)}
	e.cmd.Env = append(os.Environ(), "HOME="+w.dir, "TMPDIR="+w.dir) // one that is killed leaves its socket
	e.cmd.Dir = w.dir
	stderr, err := e.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.stop(t) })
	ready := make(chan struct{})
	go e.follow(stderr, ready)
	select {
	case <-ready:
	case <-e.done:
		t.Fatalf("egret ended:\n%s", e.logged())
	case <-time.After(20 * time.Second):
		t.Fatalf("egret is not ready after 20s:\n%s", e.logged())
	}
	return e
}

func (e *egret) follow(r io.Reader, ready chan<- struct{}) {
	defer close(e.done)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var l struct{ Msg string }
		_ = json.Unmarshal(lines.Bytes(), &l)
		e.mu.Lock()
		e.log.WriteString(lines.Text() + "\n")
		e.mu.Unlock()
		if l.Msg == "ready" {
			close(ready)
		}
	}
}

func (e *egret) logged() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.log.String()
}

// stop ends egret as a service manager does, and looks for keys in what it wrote.
func (e *egret) stop(t *testing.T) {
	t.Helper()
	if e.cmd.ProcessState != nil {
		return
	}
	_ = e.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(20*time.Second, func() { _ = e.cmd.Process.Kill() })
	<-e.done
	err := e.cmd.Wait()
	late.Stop()
	if err != nil {
		t.Errorf("egret: %v\n%s", err, e.logged())
	}
	text, _ := os.ReadFile(e.w.file("audit.jsonl"))
	for name, key := range e.w.keys {
		if strings.Contains(string(text)+e.logged(), key.Reveal()) {
			t.Errorf("egret wrote down the key of %s", name)
		}
	}
	if t.Failed() {
		t.Logf("egret's log:\n%s\nthe last records:\n%s", e.logged(), text[max(0, len(text)-4000):])
	}
}

// kill ends egret without a word.
func (e *egret) kill(t *testing.T) {
	t.Helper()
	if err := e.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-e.done
	_ = e.cmd.Wait()
}

// record is what the tests look at of an audit record.
type record struct {
	Kind, Listener, Workload, Evidence, Verdict, Layer, Reason, Host, Original string
	UpstreamIP                                                                 string `json:"upstream_ip"`
	OriginalMismatch                                                           bool   `json:"original_mismatch"`
}

// await returns the first record that passes, or fails after three seconds.
func (e *egret) await(t *testing.T, what string, keep func(record) bool) record {
	t.Helper()
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		text, _ := os.ReadFile(e.w.file("audit.jsonl"))
		for line := range bytes.Lines(text) {
			var r record
			if json.Unmarshal(line, &r) == nil && keep(r) {
				return r
			}
		}
	}
	t.Errorf("no record of %s", what)
	return record{}
}

// redirect puts egret's rules in force in the pod until the test ends.
func (w *world) redirect(t *testing.T, backend string, more ...string) {
	t.Helper()
	w.inPodOK(t, append([]string{os.Getenv(egretVar), "redirect", "apply", "--backend", backend, "--uid", fmt.Sprint(egretUID)}, more...)...)
	t.Cleanup(func() { w.inPodOK(t, os.Getenv(egretVar), "redirect", "remove") })
}

func (w *world) inPodOK(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := w.inPod(argv...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}
