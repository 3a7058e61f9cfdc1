// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package exec

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/egret-proxy/egret/internal/durable"
)

// program is one run.
type program struct {
	path string   // of the file
	args []string // the first is the program's own name
	env  []string
}

// result is how it ended. The zero result: exit status 0, nothing printed.
type result struct {
	out     []byte
	stderr  int64 // bytes
	tooLong bool  // killed because it prints too much
	err     error // it was not started
	code    int
	signal  string // that ended it
}

// drain is how long the pipes are read after the program's end, for children that have
// left its process group and hold them.
const drain = 500 * time.Millisecond

// run starts the program in a process group of its own and waits for its end, which is
// that of all its children: what is left of the group then is killed, and the whole group
// when ctx ends.
func run(ctx context.Context, p program) result {
	// The kernel ends the program with the thread that has started it (see attributes).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var r result
	out, stderr := &limited{over: func() { r.tooLong = true; cancel() }}, &count{}
	cmd := exec.CommandContext(ctx, p.path)
	cmd.Args, cmd.Env, cmd.Dir = p.args, p.env, "/"
	cmd.Stdout, cmd.Stderr = out, stderr // no Stdin: /dev/null
	cmd.SysProcAttr = attributes()
	var ended atomic.Bool
	cmd.Cancel = func() error {
		if ended.Load() {
			return os.ErrProcessDone // its number may be another's
		}
		return killGroup(cmd.Process.Pid)
	}
	cmd.WaitDelay = drain
	if err := cmd.Start(); err != nil {
		return result{err: durable.Unpath(err)}
	}
	// While the program is a zombie its number is no other group's.
	if awaitExit(cmd.Process.Pid) {
		ended.Store(true)
		_ = killGroup(cmd.Process.Pid)
	}
	err := cmd.Wait()
	r.out, r.stderr = out.buf.Bytes(), stderr.n
	r.read(cmd.ProcessState, err)
	return r
}

func (r *result) read(state *os.ProcessState, err error) {
	if state == nil {
		r.err = errors.New("it was lost")
		return
	}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		r.signal = ws.Signal().String()
	}
	r.code = state.ExitCode()
	if r.code == 0 && err != nil && !errors.Is(err, exec.ErrWaitDelay) && !r.tooLong {
		r.code = ExitTemporary // its output could not be read to the end
	}
}

func killGroup(pid int) error {
	err := syscall.Kill(-pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) || errors.Is(err, syscall.EPERM) { // darwin: a group of zombies
		return os.ErrProcessDone
	}
	return err
}
