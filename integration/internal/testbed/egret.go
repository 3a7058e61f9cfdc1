// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package testbed

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// How long egret may take.
const (
	readyTime = 60 * time.Second
	endTime   = 40 * time.Second
)

// Egret is a running `egret run`, whose log is JSON and whose records are in audit.jsonl of
// its folder.
type Egret struct {
	t     testing.TB
	cmd   *exec.Cmd
	log   Log
	ready chan struct{}
	done  chan struct{}
	once  sync.Once

	mu      sync.Mutex
	address map[string]string
}

// Start starts a command in its Dir. It ends with the test at the latest, and with the
// test's process if that is killed.
func Start(t testing.TB, cmd *exec.Cmd) *Egret {
	t.Helper()
	e := &Egret{t: t, cmd: cmd, ready: make(chan struct{}), done: make(chan struct{}), address: map[string]string{}}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	go e.follow(io.TeeReader(stderr, &e.log))
	t.Cleanup(e.Stop)
	return e
}

// Run is Start and Await.
func Run(t testing.TB, cmd *exec.Cmd) *Egret {
	t.Helper()
	e := Start(t, cmd)
	e.Await()
	return e
}

// follow reads egret's log to its end.
func (e *Egret) follow(log io.Reader) {
	defer close(e.done)
	ready := false
	for lines := bufio.NewScanner(log); lines.Scan(); {
		var l struct{ Msg, Listener, Address string }
		_ = json.Unmarshal(lines.Bytes(), &l) // what is not JSON is shown when a test fails
		if l.Msg == "listening" {
			e.mu.Lock()
			e.address[l.Listener] = l.Address
			e.mu.Unlock()
		}
		if l.Msg == "ready" && !ready {
			ready = true
			close(e.ready)
		}
	}
}

// Await waits until egret is ready.
func (e *Egret) Await() {
	e.t.Helper()
	select {
	case <-e.ready:
	case <-e.done:
		e.t.Fatalf("egret ended:\n%s", Tail(e.Log()))
	case <-time.After(readyTime):
		e.t.Fatalf("egret is not ready after %s:\n%s", readyTime, Tail(e.Log()))
	}
}

// Address is where a listener of egret's settings listens.
func (e *Egret) Address(listener string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.address[listener]
}

// Log is what egret has printed so far.
func (e *Egret) Log() string { return e.log.String() }

// Records are the lines of audit.jsonl so far.
func (e *Egret) Records() string {
	b, _ := os.ReadFile(filepath.Join(e.cmd.Dir, "audit.jsonl"))
	return string(b)
}

// Recorded reports a record that has all of the texts.
func (e *Egret) Recorded(texts ...string) bool {
lines:
	for line := range strings.Lines(e.Records()) {
		for _, x := range texts {
			if !strings.Contains(line, x) {
				continue lines
			}
		}
		return true
	}
	return false
}

// Reveals reports which of the secrets stand in the log or in the records (MUST C9).
func (e *Egret) Reveals(secrets ...string) bool {
	all := e.Log() + e.Records()
	for _, s := range secrets {
		if strings.Contains(all, s) {
			return true
		}
	}
	return false
}

// Pid is that of the process.
func (e *Egret) Pid() int { return e.cmd.Process.Pid }

// Terminate asks egret to end, and does not wait.
func (e *Egret) Terminate() { _ = e.cmd.Process.Signal(syscall.SIGTERM) }

// Done is closed when egret has ended.
func (e *Egret) Done() <-chan struct{} { return e.done }

// Stop ends egret as a service manager does, once. The test fails unless egret ends by
// itself, with code 0.
func (e *Egret) Stop() { e.once.Do(e.stop) }

func (e *Egret) stop() {
	e.Terminate()
	late := time.AfterFunc(endTime, func() { _ = e.cmd.Process.Kill() })
	<-e.done
	err := e.cmd.Wait()
	late.Stop()
	if err != nil {
		e.t.Errorf("egret: %v", err)
	}
	if strings.Contains(e.Log(), "DATA RACE") {
		e.t.Error("egret's log has a data race")
	}
	if e.t.Failed() {
		e.t.Logf("egret's log:\n%s\nits records:\n%s", Tail(e.Log()), Tail(e.Records()))
	}
}
