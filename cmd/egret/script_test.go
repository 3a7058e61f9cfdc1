// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/egret-proxy/egret/cmd/egret/internal/nodetest"
	"github.com/egret-proxy/egret/identity/embedded"
)

// TestMain makes this test binary the program egret for the scripts.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"egret": main})
}

// TestScript runs the program as users do.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup:               setupScript,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"world": cmdWorld, "start": cmdStart, "signal": cmdSignal, "ended": cmdEnded, "waitlog": cmdWaitLog,
			"status": cmdStatus, "replace": cmdReplace, "today": cmdToday, "lastid": cmdLastID, "nosecret": cmdNoSecret,
		},
		Condition: func(cond string) (bool, error) {
			if cond == "sidecar" { // listeners that know their callers by the kernel
				return runtime.GOOS == "linux", nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
	})
}

type scriptKey struct{}

// scriptState is what one script has running.
type scriptState struct {
	world   *nodetest.World
	started map[string]*started
}

func setupScript(env *testscript.Env) error {
	s := &scriptState{started: map[string]*started{}}
	env.Values[scriptKey{}] = s
	env.Vars = slices.DeleteFunc(env.Vars, func(kv string) bool { return strings.HasPrefix(kv, "TMPDIR=") })
	env.Setenv("TMPDIR", filepath.Join(env.WorkDir, ".tmp"))
	for _, v := range []string{"HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE"} {
		env.Setenv(v, "")
	}
	env.Defer(func() {
		for _, p := range s.started {
			p.end()
		}
		if s.world != nil {
			s.world.Close()
		}
	})
	return nil
}

func stateOf(ts *testscript.TestScript) *scriptState { return ts.Value(scriptKey{}).(*scriptState) }

// cmdWorld lays out twins, a Workload API, policy and egret.yaml in $WORK.
func cmdWorld(ts *testscript.TestScript, _ bool, _ []string) {
	w, err := nodetest.New(ts.Getenv("WORK"), embedded.Options{})
	ts.Check(err)
	stateOf(ts).world = w
}

// started is a program in the background.
type started struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	code int
}

func (p *started) end() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// cmdStart runs a program in the background: start NAME PROGRAM ARGS. Both its streams
// go to NAME.log.
func cmdStart(ts *testscript.TestScript, _ bool, args []string) {
	p := &started{log: ts.MkAbs(args[0] + ".log"), done: make(chan struct{})}
	f, err := os.Create(p.log)
	ts.Check(err)
	defer f.Close()
	path, err := exec.LookPath(args[1])
	ts.Check(err)
	p.cmd = exec.Command(path, args[2:]...)
	p.cmd.Args[0] = args[1]
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = ts.MkAbs("."), f, f
	p.cmd.Env = append(os.Environ(), "TMPDIR="+ts.Getenv("TMPDIR"))
	ts.Check(p.cmd.Start())
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait()
		p.code = p.cmd.ProcessState.ExitCode()
	}()
	stateOf(ts).started[args[0]] = p
}

func programOf(ts *testscript.TestScript, name string) *started {
	p := stateOf(ts).started[name]
	if p == nil {
		ts.Fatalf("nothing was started as %s", name)
	}
	return p
}

func cmdSignal(ts *testscript.TestScript, _ bool, args []string) {
	s, ok := map[string]os.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM, "INT": syscall.SIGINT}[args[1]]
	if !ok {
		ts.Fatalf("signal %s?", args[1])
	}
	ts.Check(programOf(ts, args[0]).cmd.Process.Signal(s))
}

// cmdEnded waits for the end of a program: ended NAME CODE.
func cmdEnded(ts *testscript.TestScript, _ bool, args []string) {
	p := programOf(ts, args[0])
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		ts.Fatalf("%s goes on:\n%s", args[0], ts.ReadFile(p.log))
	}
	if want, err := strconv.Atoi(args[1]); err != nil || p.code != want {
		ts.Fatalf("%s ended with %d, want %s:\n%s", args[0], p.code, args[1], ts.ReadFile(p.log))
	}
}

// cmdWaitLog waits until a file matches: waitlog FILE REGEXP [VARIABLE], which gets the
// first group.
func cmdWaitLog(ts *testscript.TestScript, neg bool, args []string) {
	re := regexp.MustCompile(args[1])
	if neg {
		if b, _ := os.ReadFile(ts.MkAbs(args[0])); re.Match(b) {
			ts.Fatalf("%s matches %q:\n%s", args[0], args[1], b)
		}
		return
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		b, _ := os.ReadFile(ts.MkAbs(args[0]))
		if m := re.FindSubmatch(b); m != nil {
			if len(args) > 2 {
				ts.Setenv(args[2], string(m[1]))
			}
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%s has no %q:\n%s", args[0], args[1], b)
		}
	}
}

// cmdStatus runs a command and holds it to its exit code: status CODE PROGRAM ARGS.
func cmdStatus(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// cmdReplace replaces text in a file: replace FILE OLD NEW.
func cmdReplace(ts *testscript.TestScript, _ bool, args []string) {
	old := ts.ReadFile(args[0])
	if !strings.Contains(old, args[1]) {
		ts.Fatalf("%s has no %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.ReplaceAll(old, args[1], args[2])), 0o600))
}

// cmdToday sets a variable to a day from today: today VARIABLE DAYS.
func cmdToday(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Setenv(args[0], time.Now().UTC().AddDate(0, 0, n).Format(time.DateOnly))
}

// cmdLastID sets a variable to the request id in a file: lastid FILE VARIABLE.
func cmdLastID(ts *testscript.TestScript, _ bool, args []string) {
	all := regexp.MustCompile(`"id":"([a-z0-9]+)"`).FindAllStringSubmatch(ts.ReadFile(args[0]), -1)
	if len(all) == 0 {
		ts.Fatalf("no id in %s", args[0])
	}
	ts.Setenv(args[1], all[len(all)-1][1])
}

// cmdNoSecret fails where a file holds a secret of the world.
func cmdNoSecret(ts *testscript.TestScript, _ bool, args []string) {
	for _, file := range args {
		b := []byte(ts.ReadFile(file))
		for _, s := range []string{stateOf(ts).world.Key.Reveal(), "pd-client-secret-never-used", "eyJ", "PRIVATE KEY"} {
			if bytes.Contains(b, []byte(s)) {
				ts.Fatalf("%s holds a secret", file)
			}
		}
	}
}

// TestEveryVerbHasAnExample, and words for the table of commands.
func TestEveryVerbHasAnExample(t *testing.T) {
	t.Parallel()
	var walk func(path string)
	root := newRootCommand()
	seen := 0
	walk = func(path string) {
		cmd, _, err := root.Find(strings.Fields(path))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cmd.Commands() {
			if c.Hidden || c.Name() == "help" || c.Name() == "completion" {
				continue
			}
			seen++
			if c.Example == "" || c.Short == "" || strings.HasSuffix(c.Short, ".") {
				t.Errorf("%s: example %q, short %q", c.CommandPath(), c.Example, c.Short)
			}
			walk(path + " " + c.Name())
		}
	}
	walk("")
	if seen < 12 {
		t.Errorf("only %d verbs were looked at", seen)
	}
}
