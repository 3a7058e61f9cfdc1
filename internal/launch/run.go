// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// Exit codes of a program that could not be run, as shells give them.
const (
	ExitCannotRun = 126
	ExitNotFound  = 127
)

// Command is a program to run. Where the streams are *os.File the child gets them as
// they are, terminals included.
type Command struct {
	Args   []string // the program, then its arguments
	Env    []string
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
}

// Run runs the program to its end and returns its exit code, 128+n where signal n
// ended it, or 126 or 127 with an error where it could not be run.
//
// The child stays in our process group, so that job control works: the terminal stops,
// continues and interrupts both. SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGUSR1
// and SIGUSR2 do not end us but go to the child, except those that the terminal has
// already sent to the whole group. A signal that our parent ignores (nohup) stays so.
func Run(c Command) (int, error) {
	path, err := exec.LookPath(c.Args[0])
	if err != nil {
		return notRun(c.Args[0], err)
	}
	cmd := &exec.Cmd{Path: path, Args: c.Args, Env: c.Env, Stdin: c.Stdin, Stdout: c.Stdout, Stderr: c.Stderr}
	received := catch()
	defer signal.Stop(received)
	if err := cmd.Start(); err != nil {
		return notRun(c.Args[0], err)
	}
	ended := make(chan struct{})
	forwarded := make(chan struct{})
	go func() {
		defer close(forwarded)
		forward(cmd.Process, received, ended)
	}()
	err = cmd.Wait()
	close(ended)
	<-forwarded
	return exitCode(cmd.ProcessState, err)
}

func notRun(name string, err error) (int, error) {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return ExitNotFound, fmt.Errorf("run %q: %w", name, err)
	}
	return ExitCannotRun, fmt.Errorf("run %q: %w", name, err)
}

func exitCode(state *os.ProcessState, err error) (int, error) {
	if state == nil {
		return ExitCannotRun, err
	}
	if w, ok := state.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal()), nil
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return state.ExitCode(), err // the child ended, but its output could not be copied
	}
	return state.ExitCode(), nil
}

// catch begins before the child starts, so that no signal falls between.
func catch() chan os.Signal {
	received := make(chan os.Signal, 16)
	for _, s := range []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGWINCH, unix.SIGUSR1, unix.SIGUSR2} {
		if !signal.Ignored(s) {
			signal.Notify(received, s)
		}
	}
	return received
}

func forward(child *os.Process, received <-chan os.Signal, ended <-chan struct{}) {
	for {
		select {
		case s := <-received:
			if !(fromTerminal(s) && inForeground()) {
				_ = child.Signal(s) // it may have ended meanwhile
			}
		case <-ended:
			return
		}
	}
}

// fromTerminal reports whether a terminal sends this signal to its foreground group.
func fromTerminal(s os.Signal) bool {
	return s == unix.SIGINT || s == unix.SIGQUIT || s == unix.SIGWINCH
}

// inForeground reports whether we are in the foreground group of a terminal.
func inForeground() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer func() { _ = tty.Close() }()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}
