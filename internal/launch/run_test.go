// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// TestMain is also the process that TestTerminalSignalsOnce starts under a terminal.
func TestMain(m *testing.M) {
	if os.Getenv("EGRET_LAUNCH_HELPER") != "" {
		code, _ := Run(Command{Args: []string{"/bin/sh", "-c", os.Getenv("EGRET_LAUNCH_HELPER")}, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
		os.Exit(code)
	}
	goleak.VerifyTestMain(m)
}

func TestRunExitCodes(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte("\x00\x01"), 0o755); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		args  []string
		want  int
		fault string
	}{
		{"ok", []string{"sh", "-c", "exit 0"}, 0, ""},
		{"code", []string{"sh", "-c", "exit 42"}, 42, ""},
		{"signal", []string{"sh", "-c", "kill -TERM $$"}, 143, ""},
		{"killed", []string{"sh", "-c", "kill -KILL $$"}, 137, ""},
		{"not found", []string{"egret-no-such-program"}, 127, "egret-no-such-program"},
		{"no such path", []string{"/nonexistent/x"}, 127, "/nonexistent/x"},
		{"not executable", []string{plain}, 126, "permission denied"},
		{"not a program", []string{garbage}, 126, "exec format error"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, err := Run(Command{Args: tt.args, Env: os.Environ()})
			if code != tt.want || (err != nil) != (tt.fault != "") || err != nil && !strings.Contains(err.Error(), tt.fault) {
				t.Errorf("got %d, %v; want %d, %q", code, err, tt.want, tt.fault)
			}
		})
	}
}

func TestRunPassesStreamsAndEnvironment(t *testing.T) {
	var out, errs strings.Builder
	code, err := Run(Command{
		Args: []string{"sh", "-c", `read line; echo "$line $A"; echo oops >&2; env | wc -l`},
		Env:  []string{"A=b"}, Stdin: strings.NewReader("hello\n"), Stdout: &out, Stderr: &errs,
	})
	if err != nil || code != 0 {
		t.Fatal(code, err)
	}
	if !strings.HasPrefix(out.String(), "hello b\n") || errs.String() != "oops\n" {
		t.Errorf("out %q, err %q", out.String(), errs.String())
	}
}

func TestRunForwardsSignals(t *testing.T) {
	for name, s := range map[string]syscall.Signal{"TERM": unix.SIGTERM, "HUP": unix.SIGHUP, "USR1": unix.SIGUSR1, "USR2": unix.SIGUSR2, "INT": unix.SIGINT, "QUIT": unix.SIGQUIT} {
		t.Run(name, func(t *testing.T) {
			if fromTerminal(s) && inForeground() {
				t.Skip("this terminal sends it to the child itself")
			}
			guard := make(chan os.Signal, 1) // so that a stray signal cannot end the test
			signal.Notify(guard, s)
			defer signal.Stop(guard)
			r, w := io.Pipe()
			go func() {
				defer func() { _, _ = io.Copy(io.Discard, r) }()
				_, _ = bufio.NewReader(r).ReadString('\n')
				_ = syscall.Kill(os.Getpid(), s)
			}()
			code, err := Run(Command{Args: []string{"sh", "-c", `trap "exit 7" ` + name + `; echo ready; for i in 1 2 3 4 5 6 7 8 9; do sleep 0.3; done`}, Env: os.Environ(), Stdout: w})
			_ = w.Close()
			if code != 7 || err != nil {
				t.Errorf("got %d, %v; the child did not get the signal", code, err)
			}
		})
	}
}

// A terminal sends SIGINT to the whole foreground group, so the child has it already:
// a second one would make many programs give up their clean end.
func TestTerminalSignalsOnce(t *testing.T) {
	master, tty := openTerminal(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), `EGRET_LAUNCH_HELPER=n=0; trap 'n=$((n+1))' INT; echo ready; for i in 1 2 3 4 5; do sleep 0.1; done; echo "got $n"; exit 5`)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = tty.Close()
	lines := bufio.NewScanner(master)
	var all []string
	for lines.Scan() {
		all = append(all, lines.Text())
		if strings.Contains(lines.Text(), "ready") {
			if _, err := master.Write([]byte{3}); err != nil { // Ctrl-C
				t.Fatal(err)
			}
		}
	}
	err := cmd.Wait()
	if cmd.ProcessState.ExitCode() != 5 {
		t.Errorf("exit: %v", err)
	}
	if text := strings.Join(all, "|"); !strings.Contains(text, "got 1") {
		t.Errorf("the child counted %s, want one SIGINT", text)
	}
}

func TestIgnoredSignalStaysIgnored(t *testing.T) {
	signal.Ignore(unix.SIGUSR2)
	defer signal.Reset(unix.SIGUSR2)
	begin := time.Now()
	code, err := Run(Command{Args: []string{"sh", "-c", "kill -USR2 $PPID; kill -USR2 $$; exit 3"}, Env: os.Environ()})
	if code != 3 || err != nil || time.Since(begin) > 5*time.Second {
		t.Errorf("got %d, %v: the child lost its parent's disposition", code, err)
	}
}
