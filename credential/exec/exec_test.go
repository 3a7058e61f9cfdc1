// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package exec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"

	"github.com/egret-proxy/egret/credential"
)

var _ credential.Provider = (*Provider)(nil)

// asProgram makes the test binary a program that does as its arguments say.
const asProgram = "EGRET_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(act(os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// act is what the program does.
func act(args []string) int {
	switch args[0] {
	case "env":
		fmt.Printf(`{"token":%q}`, strings.Join(os.Environ(), " "))
	case "args":
		fmt.Printf(`{"token":%q}`, strings.Join(args[1:], "|"))
	case "look": // at what it has inherited
		in, _ := io.ReadAll(os.Stdin)
		dir, _ := os.Getwd()
		pgid := syscall.Getpgrp() == os.Getpid()
		fmt.Printf(`{"token":"stdin %d bytes, in %s, own group %t, file %t"}`, len(in), dir, pgid, holds(args[1]))
	case "print":
		fmt.Print(args[1])
	case "much":
		for {
			if _, err := fmt.Print(strings.Repeat("hush", 1000)); err != nil {
				return 0
			}
		}
	case "exit":
		fmt.Fprint(os.Stderr, "hush, a secret")
		n, _ := strconv.Atoi(args[1])
		return n
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		time.Sleep(time.Minute)
	case "sleep":
		time.Sleep(time.Minute)
	}
	return 0
}

// holds reports whether path is open here.
func holds(path string) bool {
	want, err := os.Stat(path)
	if err != nil {
		return true
	}
	for fd := 3; fd < 1000; fd++ {
		f := os.NewFile(uintptr(fd), "")
		if st, err := f.Stat(); err == nil && os.SameFile(st, want) {
			return true
		}
	}
	return false
}

// itself is the test binary with arguments.
func itself(t testing.TB, change func(*Config), args ...string) *Provider {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := Config{
		Command: append([]string{self}, args...), Env: []string{asProgram},
		LookupEnv: func(n string) (string, bool) { return "1", n == asProgram },
	}
	if change != nil {
		change(&c)
	}
	return provider(t, c)
}

func provider(t testing.TB, c Config) *Provider {
	t.Helper()
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// script is a program of the shell.
func script(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	syscall.ForkLock.RLock() // no child must inherit it while it can be written to (ETXTBSY)
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func shell(t testing.TB, text string, change func(*Config)) *Provider {
	t.Helper()
	c := Config{Command: []string{script(t, text)}}
	if change != nil {
		change(&c)
	}
	return provider(t, c)
}

func get(t testing.TB, p *Provider) (string, error) {
	t.Helper()
	tok, err := p.Fetch(t.Context(), credential.Key{}, nil)
	return tok.Values["token"].Reveal(), err
}

func wantKind(t testing.TB, err error, k credential.Kind) *credential.Error {
	t.Helper()
	e, ok := errors.AsType[*credential.Error](err)
	if !ok || e.Kind != k {
		t.Fatalf("err = %v, want %s", err, k)
	}
	if strings.Contains(e.Error(), "hush") {
		t.Errorf("MUST C9: the error quotes what the program printed: %v", e)
	}
	return e
}

func TestPrintsACredential(t *testing.T) {
	p := itself(t, func(c *Config) { c.Values = []string{"username"} }, "print", `{"token":"t","values":{"username":"u","more":"m"},"expiresIn":60}`)
	tok, err := p.Fetch(t.Context(), credential.Key{}, nil)
	if err != nil || tok.Values["token"].Reveal() != "t" || tok.Values["username"].Reveal() != "u" || len(tok.Values) != 2 || tok.Lifetime != time.Minute {
		t.Errorf("%v %s, %v", tok.Values, tok.Lifetime, err)
	}
}

// TestMUST_C9_NothingOfEgretIsInherited: environment, files, input, folder.
func TestMUST_C9_NothingOfEgretIsInherited(t *testing.T) {
	t.Setenv("SLACK_TOKEN", "hush")
	f, err := os.CreateTemp(t.TempDir(), "held")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	id := spiffeid.RequireFromString("spiffe://acme.example/ns/qa/sa/a")
	set := map[string]string{asProgram: "1", "REGION": "eu"}
	p := itself(t, func(c *Config) {
		c.Env = []string{"REGION", asProgram, "NOT_SET"}
		c.LookupEnv = func(n string) (string, bool) { v, ok := set[n]; return v, ok }
	}, "env")
	tok, err := p.Fetch(t.Context(), credential.Key{ID: id}, nil)
	want := "REGION=eu " + asProgram + "=1 EGRET_SPIFFE_ID=spiffe://acme.example/ns/qa/sa/a"
	if diff := cmp.Diff(want, tok.Values["token"].Reveal()); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	if got, err := get(t, p); err != nil || strings.Contains(got, "SPIFFE_ID") {
		t.Errorf("shared: %q, %v", got, err)
	}
	got, err := get(t, itself(t, nil, "look", f.Name()))
	if err != nil || got != "stdin 0 bytes, in /, own group true, file false" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestNoShellSeesTheArguments(t *testing.T) {
	args := []string{"args", "$(id)", "; id", "*", "", "a b", `"`, "-x"}
	got, err := get(t, itself(t, nil, args...))
	if want := strings.Join(args[1:], "|"); err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
}

func TestFaultMatrix(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		kind credential.Kind
		want string
	}{
		"exit 1":              {[]string{"exit", "1"}, credential.Unreachable, "exit status 1; it wrote 14 bytes to standard error"},
		"exit 75":             {[]string{"exit", "75"}, credential.Unreachable, "exit status 75"},
		"exit 77":             {[]string{"exit", "77"}, credential.Refused, "exit status 77"},
		"exit 78":             {[]string{"exit", "78"}, credential.Refused, "exit status 78"},
		"killed":              {[]string{"kill"}, credential.Unreachable, `ended by signal "killed"`},
		"too slow":            {[]string{"sleep"}, credential.Unreachable, "not done after 1s: killed"},
		"prints too much":     {[]string{"much"}, credential.NotMinted, "more than 64 KiB"},
		"prints nothing":      {[]string{"print", ""}, credential.NotMinted, "must be one JSON object"},
		"prints a bare token": {[]string{"print", "hush"}, credential.NotMinted, "must be one JSON object"},
		"prints half":         {[]string{"print", `{"token":"hush"`}, credential.NotMinted, "must be one JSON object"},
		"is over":             {[]string{"print", `{"token":"hush","expiresAt":"2020-01-01T00:00:00Z"}`}, credential.Expired, "over already"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begun := time.Now()
			_, err := get(t, itself(t, func(c *Config) {
				if name == "too slow" {
					c.Timeout = time.Second
				}
			}, tc.args...))
			if e := wantKind(t, err, tc.kind); !strings.Contains(e.Error(), tc.want) {
				t.Errorf("%v, want %q", e, tc.want)
			}
			if d := time.Since(begun); d > DefaultTimeout/2 {
				t.Errorf("took %s", d)
			}
		})
	}
}

// alive reports whether there is a process that is not a zombie.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !strings.Contains(string(b), ") Z ")
}

func awaitGone(t testing.TB, pidFile, what string) {
	t.Helper()
	b, err := os.ReadFile(pidFile)
	pid, err2 := strconv.Atoi(strings.TrimSpace(string(b)))
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Second); alive(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("%s: the child lives on", what)
		}
	}
}

// TestTheWholeGroupEnds: a child in the background neither outlives the program nor keeps
// egret waiting by holding its output open.
func TestTheWholeGroupEnds(t *testing.T) {
	for name, tc := range map[string]struct {
		end  string
		kind credential.Kind // -1: none
	}{
		"at the deadline":     {"wait", credential.Unreachable},
		"after success":       {`echo '{"token":"t"}'`, -1},
		"after failure":       {"exit 3", credential.Unreachable},
		"when deaf to a kind": {"trap '' TERM INT HUP; wait", credential.Unreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pids := filepath.Join(t.TempDir(), "pid")
			p := shell(t, "sleep 60 & echo $! > "+pids+"\n"+tc.end+"\n", func(c *Config) {
				if strings.HasSuffix(tc.end, "wait") {
					c.Timeout = time.Second
				}
			})
			begun := time.Now()
			_, err := get(t, p)
			if tc.kind >= 0 {
				wantKind(t, err, tc.kind)
			} else if err != nil {
				t.Error(err)
			}
			if d := time.Since(begun); d > DefaultTimeout/2 {
				t.Errorf("took %s", d)
			}
			awaitGone(t, pids, name)
		})
	}
}

// TestACallerThatLeaves: its context ends the program.
func TestACallerThatLeaves(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begun := time.Now()
	_, err := itself(t, nil, "sleep").Fetch(ctx, credential.Key{}, nil)
	if wantKind(t, err, credential.Unreachable); time.Since(begun) > 2*time.Second {
		t.Errorf("took %s", time.Since(begun))
	}
}

func TestFewAtATime(t *testing.T) {
	dir := t.TempDir()
	p := shell(t, "echo x > "+dir+"/$$; set -- "+dir+"/*; sleep 0.2; rm "+dir+"/$$; echo '{\"token\":\"'$#'\"}'", func(c *Config) { c.Env = []string{"PATH"} })
	var most atomic.Int64
	var wg sync.WaitGroup
	for range 3 * maxRunning {
		wg.Go(func() {
			got, err := get(t, p)
			n, _ := strconv.ParseInt(got, 10, 64)
			if most.Store(max(most.Load(), n)); err != nil || n > maxRunning {
				t.Errorf("%q at a time, %v", got, err)
			}
		})
	}
	wg.Wait()
	if most.Load() < 2 {
		t.Error("one after the other")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for range maxRunning {
		p.slots <- struct{}{}
	}
	_, err := p.Fetch(ctx, credential.Key{}, nil)
	if e := wantKind(t, err, credential.Unreachable); !strings.Contains(e.Error(), "running already") {
		t.Error(e)
	}
}

func TestNewRefuses(t *testing.T) {
	good := script(t, "")
	for want, c := range map[string]Config{
		"must begin with the absolute path":      {},
		`command ["sh"] must begin with the`:     {Command: []string{"sh"}},
		`command ["./x"] must begin with the`:    {Command: []string{"./x"}},
		"must not hold a NUL":                    {Command: []string{good, "a\x00b"}},
		`env "A=B" must be the name`:             {Command: []string{good}, Env: []string{"A=B"}},
		`env "" must be the name`:                {Command: []string{good}, Env: []string{""}},
		`env "EGRET_SPIFFE_ID" must be absent`:   {Command: []string{good}, Env: []string{SPIFFEIDVariable}},
		`values "token" must be a name besides`:  {Command: []string{good}, Values: []string{"token"}},
		`values "User" must have lower-case`:     {Command: []string{good}, Values: []string{"User"}},
		`values "" must be a name`:               {Command: []string{good}, Values: []string{""}},
		"timeout 10ms must be between 1s and 2m": {Command: []string{good}, Timeout: 10 * time.Millisecond},
		"timeout 3m0s must be between":           {Command: []string{good}, Timeout: 3 * time.Minute},
		"no such file":                           {Command: []string{good + "x"}},
	} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestMUST_C9_ProviderDoesNotPrint(t *testing.T) {
	p := itself(t, nil, "print", `{"token":"hush"}`)
	tok, err := p.Fetch(t.Context(), credential.Key{}, nil)
	if out := fmt.Sprintf("%+v %#v", tok, tok); err != nil || strings.Contains(out, "hush") {
		t.Errorf("%s, %v", out, err)
	}
}
