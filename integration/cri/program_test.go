// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package cri

import (
	"bufio"
	"bytes"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// program runs on a node.
type program struct {
	name string
	cmd  *exec.Cmd
	pid  int // of the program itself, as this machine has it
	done chan struct{}

	mu  sync.Mutex
	log bytes.Buffer
}

// begin starts a program and waits until it has written a line with the text ready.
func (n *node) begin(t *testing.T, name, ready string, argv ...string) *program {
	t.Helper()
	p := &program{name: name, cmd: n.enter(argv...), done: make(chan struct{})}
	r, w := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = w, w
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	is := make(chan struct{})
	go p.follow(r, ready, is)
	go func() { _ = p.cmd.Wait(); _ = w.Close() }()
	for p.pid == 0 && !p.ended() { // nsenter forks
		p.pid = childOf(p.cmd.Process.Pid)
	}
	t.Cleanup(func() { p.stop(t) })
	select {
	case <-is:
	case <-p.done:
		t.Fatalf("%s has ended:\n%s", name, p.logged())
	case <-time.After(60 * time.Second):
		t.Fatalf("%s is not ready:\n%s", name, p.logged())
	}
	return p
}

func (p *program) follow(r io.Reader, ready string, is chan struct{}) {
	defer close(p.done)
	var once sync.Once
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		p.mu.Lock()
		p.log.WriteString(line)
		p.mu.Unlock()
		if strings.Contains(line, ready) {
			once.Do(func() { close(is) })
		}
		if err != nil {
			return
		}
	}
}

func (p *program) logged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// tail is the end of what it has written, without the tests' own questions.
func (p *program) tail() string {
	var kept []string
	for line := range strings.Lines(p.logged()) {
		if !strings.Contains(line, "admin call") {
			kept = append(kept, line)
		}
	}
	text := strings.Join(kept, "")
	return text[max(0, len(text)-8000):]
}

func (p *program) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// signal never means a group of processes, which the pids 0 and -1 do.
func (p *program) signal(s syscall.Signal) {
	if p.pid > 1 {
		_ = syscall.Kill(p.pid, s)
	}
}

// kill ends it without a word.
func (p *program) kill(t *testing.T) {
	t.Helper()
	p.signal(syscall.SIGKILL)
	<-p.done
}

// stop ends it as a service manager does.
func (p *program) stop(t *testing.T) {
	t.Helper()
	if p.ended() {
		return
	}
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		p.signal(syscall.SIGQUIT)
		t.Errorf("%s does not end", p.name)
	}
	if t.Failed() {
		t.Logf("log of %s:\n%s", p.name, p.tail())
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never happened: %s", what)
}
