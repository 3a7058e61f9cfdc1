// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// command is a program to start.
type command struct {
	dir  string
	argv []string
	env  []string            // besides the environment of the bench
	as   *syscall.Credential // user; nil: that of the bench
}

// process is a program that the rig has started and that it ends.
type process struct {
	name  string
	cmd   *exec.Cmd
	first chan string // the first line of standard output
	said  tail        // the end of standard error
	done  chan struct{}
}

// tail keeps the end of what a process wrote to standard error.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailSize = 4 << 10

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	t.b = t.b[max(0, len(t.b)-tailSize):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.b))
}

// firstLine hands on the first line that it is written.
type firstLine struct {
	line chan string
	b    []byte
	sent bool
}

// Write implements io.Writer.
func (f *firstLine) Write(p []byte) (int, error) {
	if f.sent {
		return len(p), nil
	}
	f.b = append(f.b, p...)
	if line, _, ok := bytes.Cut(f.b, []byte("\n")); ok {
		f.line <- strings.TrimSpace(string(line))
		f.sent, f.b = true, nil
	}
	return len(p), nil
}

// launch starts a program in a process group of its own, so that nothing that it forks
// outlives it.
func launch(ctx context.Context, c command) (*process, error) {
	p := &process{name: filepath.Base(c.argv[0]), first: make(chan string, 1), done: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	p.cmd.Dir, p.cmd.Stderr, p.cmd.Stdout = c.dir, &p.said, &firstLine{line: p.first}
	p.cmd.Env = append(os.Environ(), c.env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: c.as}
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait()
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// failed says why a process does not serve.
func (p *process) failed(err error) error {
	return fmt.Errorf("%s did not start: %w: %s", p.name, err, p.said.String())
}

const startTimeout = 20 * time.Second

var errEnded = errors.New("it ended")

// listening starts a program that says "listening ADDRESS…" when it serves, and returns
// the addresses.
func listening(ctx context.Context, c command) (*process, []string, error) {
	p, err := launch(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	var line string
	select {
	case line = <-p.first:
	case <-p.done:
	case <-time.After(startTimeout):
	case <-ctx.Done():
	}
	if f := strings.Fields(line); len(f) > 1 && f[0] == "listening" {
		return p, f[1:], nil
	}
	p.end()
	return nil, nil, p.failed(fmt.Errorf("it said %q", line))
}

// until asks every few milliseconds whether the process serves.
func (p *process) until(ctx context.Context, every time.Duration, serves func(context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for !serves(ctx) {
		select {
		case <-p.done:
			return p.failed(errEnded)
		case <-ctx.Done():
			return p.failed(context.Cause(ctx))
		case <-time.After(every):
		}
	}
	return nil
}

// accepts reports whether something listens at an address.
func accepts(address string) func(context.Context) bool {
	return func(ctx context.Context) bool {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return false
		}
		c.Close()
		return true
	}
}

// end stops the process and all that it has forked, and waits for it.
func (p *process) end() {
	_ = p.cmd.Cancel() // an error says that it has ended
	kill := time.AfterFunc(5*time.Second, func() { _ = p.cmd.Process.Kill() })
	<-p.done
	kill.Stop()
	_ = syscall.Kill(-p.pid(), syscall.SIGKILL) // what is left of its group
}

// output runs a program to its end and returns what it wrote.
func output(ctx context.Context, dir string, stdin io.Reader, argv ...string) ([]byte, error) {
	var said tail
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdin, cmd.Stderr = dir, stdin, &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, said.String())
	}
	return out, nil
}
