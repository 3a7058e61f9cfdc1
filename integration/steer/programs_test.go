// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package steer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/egret-proxy/egret/internal/ops"
)

// program is a running egret run or egret steer.
type program struct {
	w    *world
	name string
	cmd  *exec.Cmd
	done chan struct{}

	mu  sync.Mutex
	log bytes.Buffer
}

// settings are those of egret run. Each pod's workload is known by its cgroup and user.
func (w *world) settings() string {
	var b strings.Builder
	fmt.Fprintf(&b, `listeners:
  - {name: pods, address: "steer://%s", kind: transparent, identify: {process: {attestor: embedded, hybrid: true}}}
spiffe:
  trustDomains: [acme.example]
  embedded:
    spiffeID: spiffe://acme.example/egret
    entries:
`, w.file("run/steer.sock"))
	for _, p := range w.pods {
		fmt.Fprintf(&b, "      - {spiffeID: %s, uids: [%d], cgroup: %s}\n", p.id(), p.uid(), p.cgroup)
	}
	b.WriteString(`metrics: {address: "127.0.0.1:8633"}
certs: {issuer: {file: [{chain: issuer/chain.pem, key: issuer/key.pem}]}}
policy: {paths: [{path: policy.yaml}]}
audit: {file: audit.jsonl}
limits: {drain: 2s}
log: {format: json}
`)
	return b.String()
}

// withCgroups gives egret the hierarchy by which programs are told apart, which ip netns
// exec takes away with its own /sys.
const withCgroups = `mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"`

// runEgret starts egret run on the node, as its own user without a capability, and waits
// until it is ready.
func (w *world) runEgret(t *testing.T) *program {
	t.Helper()
	if _, err := os.Stat(w.file("egret.yaml")); err != nil {
		w.write(t, "egret.yaml", []byte(w.settings()))
		for _, own := range []string{"egret.yaml", "policy.yaml", "secrets", "issuer", "twins.pem", "ca"} {
			sh(t, "chown", "-R", fmt.Sprint(egretUID), w.file(own))
		}
		sh(t, "chown", fmt.Sprint(egretUID), w.dir)
		sh(t, "chmod", "-R", "a+rX", w.file("trust"))
	}
	return w.start(t, "ready", w.host, "sh", "-c", withCgroups, "sh", "setpriv", "--reuid", fmt.Sprint(egretUID), "--regid", fmt.Sprint(egretUID), "--clear-groups",
		"--inh-caps", "-all", "--bounding-set", "-all", "--no-new-privs", os.Getenv(egretVar), "run", "-c", w.file("egret.yaml"))
}

// runSteer starts egret steer on the node. more are further flags.
func (w *world) runSteer(t *testing.T, more ...string) *program {
	t.Helper()
	return w.start(t, "steering", w.host, w.steer(more...)...)
}

func (w *world) steer(more ...string) []string {
	return append([]string{os.Getenv(egretVar), "steer", "--user", fmt.Sprint(egretUID), "--socket", w.file("run/steer.sock"),
		"--control", w.control(), "--state", w.file("run/pods")}, more...)
}

func (w *world) control() string { return w.file("run/control.sock") }

// folder are the flags that have the folder of namespaces steered.
func (w *world) folder() []string { return []string{"--namespaces", w.file("netns")} }

// start runs a program in a namespace until it has logged a line that begins as ready.
func (w *world) start(t *testing.T, ready, ns string, argv ...string) *program {
	t.Helper()
	p := &program{w: w, name: argv[len(argv)-1], done: make(chan struct{})}
	in := []string{"nsenter", "--net=/run/netns/" + ns}
	if ready == "ready" { // egret resolves names
		in = []string{"ip", "netns", "exec", ns}
	}
	argv = append(in, argv...)
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Env, p.cmd.Dir = append(os.Environ(), "HOME="+w.dir), w.dir
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.stop(t) })
	is := make(chan struct{})
	go p.follow(stderr, ready, is)
	select {
	case <-is:
	case <-p.done:
		t.Fatalf("it ended:\n%s", p.logged())
	case <-time.After(30 * time.Second):
		t.Fatalf("it is not ready after 30s:\n%s", p.logged())
	}
	return p
}

func (p *program) follow(r io.Reader, ready string, is chan struct{}) {
	defer close(p.done)
	var once sync.Once
	for lines := bufio.NewScanner(r); lines.Scan(); {
		p.mu.Lock()
		p.log.WriteString(lines.Text() + "\n")
		p.mu.Unlock()
		var l struct{ Msg string }
		if json.Unmarshal(lines.Bytes(), &l) == nil && l.Msg == ready || strings.Contains(lines.Text(), "msg="+ready+" ") {
			once.Do(func() { close(is) })
		}
	}
}

func (p *program) logged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// withoutCalls finds what the tests' own questions have made of the log.
var withoutCalls = regexp.MustCompile(`(?m)^.*"msg":"admin call".*\n`)

// stop ends it as a service manager does, and looks for keys in what it wrote.
func (p *program) stop(t *testing.T) {
	t.Helper()
	if p.cmd.ProcessState != nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(20*time.Second, func() { _ = p.cmd.Process.Signal(syscall.SIGQUIT) })
	<-p.done
	err := p.cmd.Wait()
	late.Stop()
	if err != nil {
		t.Errorf("%s: %v\n%s", p.name, err, p.logged())
	}
	for name, key := range p.w.arrivals.Keys {
		if strings.Contains(p.logged(), key.Reveal()) {
			t.Errorf("the key of %s was logged", name)
		}
	}
	if t.Failed() {
		text := withoutCalls.ReplaceAllString(p.logged(), "")
		t.Logf("log of %s:\n%s", p.name, text[max(0, len(text)-12000):])
	}
}

// kill ends it without a word.
func (p *program) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.done
	_ = p.cmd.Wait()
}

func (p *program) pid() int { return p.cmd.Process.Pid }

// record is what the tests look at of an audit record.
type record struct {
	Kind, Listener, Pod, Workload, Evidence, Verdict, Layer, Reason, Host, Original string
	OriginalMismatch                                                                bool `json:"original_mismatch"`
}

// await returns the first record that passes, or fails after three seconds.
func (w *world) await(t *testing.T, what string, keep func(record) bool) record {
	t.Helper()
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		text, _ := os.ReadFile(w.file("audit.jsonl"))
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

// listed is what egret steer says of each namespace.
func (w *world) listed(t *testing.T) map[string]string {
	t.Helper()
	var list []struct{ Key, State, Error string }
	if err := ops.Do(t.Context(), ops.Dial(w.control()), ops.Call{Method: http.MethodGet, Path: "/v1/pods", Out: &list}); err != nil {
		t.Fatal(err)
	}
	states := map[string]string{}
	for _, x := range list {
		states[x.Key] = strings.TrimSpace(x.State + " " + x.Error)
	}
	return states
}

// awaitServed waits until so many namespaces are served.
func (w *world) awaitServed(t *testing.T, n int) {
	t.Helper()
	waitFor(t, fmt.Sprintf("%d namespaces are served", n), func() bool {
		served := 0
		for _, state := range w.listed(t) {
			if state == "served" {
				served++
			}
		}
		return served == n
	})
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never happened: %s", what)
}
