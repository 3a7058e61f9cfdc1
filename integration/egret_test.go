// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// egret is a running `egret run`.
type egret struct {
	world   *world
	cmd     *exec.Cmd
	address map[string]string // by listener
	read    int64             // of the audit file

	mu   sync.Mutex
	log  bytes.Buffer
	done chan struct{}
}

// start runs egret with the world's files until the test ends, and waits until it is
// ready.
func (w *world) start(t *testing.T, upstreamProxy string) *egret {
	t.Helper()
	w.render(t, "egret.yaml", map[string]any{"WorkloadAPI": w.workloadAPI, "UpstreamProxy": upstreamProxy})
	e := &egret{world: w, address: map[string]string{}, done: make(chan struct{})}
	e.cmd = exec.Command(os.Getenv(egretVar), "run", "-c", w.file("egret.yaml"))
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

// follow reads egret's log to its end; done is closed then.
func (e *egret) follow(r io.Reader, ready chan<- struct{}) {
	defer close(e.done)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var l struct{ Msg, Listener, Address string }
		_ = json.Unmarshal(lines.Bytes(), &l) // what is not JSON is shown when a test fails
		e.mu.Lock()
		e.log.WriteString(lines.Text() + "\n")
		if l.Msg == "listening" {
			e.address[l.Listener] = l.Address
		}
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

// stop ends egret as a service manager does. It fails the test unless egret ends by
// itself with code 0 and has logged no key.
func (e *egret) stop(t *testing.T) {
	t.Helper()
	if e.cmd.ProcessState != nil {
		return
	}
	_ = e.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(40*time.Second, func() { _ = e.cmd.Process.Kill() })
	<-e.done
	err := e.cmd.Wait()
	late.Stop()
	if err != nil {
		t.Errorf("egret: %v\n%s", err, e.logged())
	}
	e.holdsNoKey(t)
	if t.Failed() {
		t.Logf("egret's log:\n%s", e.logged())
	}
}

// holdsNoKey looks for every key in what egret wrote.
func (e *egret) holdsNoKey(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(e.world.file("audit.jsonl"))
	if err != nil {
		t.Error(err)
	}
	all := string(text) + e.logged()
	for name, key := range e.world.keys {
		if strings.Contains(all, key.Reveal()) {
			t.Errorf("egret wrote down the key of %s", name)
		}
	}
}

// record is what the tests look at of an audit record.
type record struct {
	Kind, ID, Workload, Evidence, Verdict, Layer, Reason, Host, Method, Credential string
	Status                                                                         int
	CallerCredential                                                               string `json:"caller_credential"`
}

// records returns what has been recorded since the last time, as soon as n requests,
// streams or handshakes have ended, or after three seconds.
func (e *egret) records(t *testing.T, n int) []record {
	t.Helper()
	var list []record
	for end := time.Now().Add(3 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		list = append(list, e.newRecords(t)...)
		ended := 0
		for _, r := range list {
			if r.Kind != "stream_start" {
				ended++
			}
		}
		if ended >= n || time.Now().After(end) {
			return list
		}
	}
}

func (e *egret) newRecords(t *testing.T) []record {
	t.Helper()
	f, err := os.Open(e.world.file("audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Seek(e.read, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1] // a line may be half written
	e.read += int64(len(text))
	var list []record
	for line := range bytes.Lines(text) {
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("record %s: %v", line, err)
		}
		list = append(list, r)
	}
	return list
}
