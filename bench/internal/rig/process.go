// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a program that the rig has started and that it ends.
type process struct {
	name string
	cmd  *exec.Cmd
	said tail
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

// launch starts a program in dir.
func launch(ctx context.Context, dir, path string, args ...string) (*process, io.Reader, error) {
	p := &process{name: path[strings.LastIndexByte(path, os.PathSeparator)+1:]}
	p.cmd = exec.CommandContext(ctx, path, args...)
	p.cmd.Dir, p.cmd.Stderr = dir, &p.said
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = 5 * time.Second
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, nil, err
	}
	return p, out, nil
}

// listening starts a program that says "listening ADDRESS" when it serves.
func listening(ctx context.Context, dir, path string, args ...string) (*process, string, error) {
	p, out, err := launch(ctx, dir, path, args...)
	if err != nil {
		return nil, "", err
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "listening ")
	if !ok {
		p.end()
		return nil, "", fmt.Errorf("%s did not start: %s", p.name, p.said.String())
	}
	return p, address, nil
}

// end stops the process and waits for it.
func (p *process) end() {
	if p.cmd.Cancel() != nil {
		return
	}
	kill := time.AfterFunc(5*time.Second, func() { _ = p.cmd.Process.Kill() })
	_ = p.cmd.Wait()
	kill.Stop()
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
