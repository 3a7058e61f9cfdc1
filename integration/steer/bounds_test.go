// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package steer

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// status returns the members of /proc/PID/status.
func status(t *testing.T, pid int) map[string]string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		out[name] = strings.TrimSpace(value)
	}
	return out
}

// TestMUST_P1_CapabilitiesOfTheRunningProcesses: the one that holds credentials has none, in
// any set and on any thread, and the other has the two that it needs. Neither can get more.
func TestMUST_P1_CapabilitiesOfTheRunningProcesses(t *testing.T) {
	w := newWorld(t)
	w.pods[0].mount(t)
	s, e := w.runSteer(t, w.folder()...), w.runEgret(t)
	w.awaitServed(t, 1)
	const none = "0000000000000000"
	both := fmt.Sprintf("%016x", 1<<unix.CAP_SYS_ADMIN|1<<unix.CAP_NET_ADMIN)
	for p, want := range map[*program]map[string]string{
		e: {"CapEff": none, "CapPrm": none, "CapInh": none, "CapAmb": none, "CapBnd": none, "NoNewPrivs": "1", "Uid": fmt.Sprintf("%d\t%[1]d\t%[1]d\t%[1]d", egretUID)},
		s: {"CapEff": both, "CapPrm": both, "CapInh": none, "CapAmb": none, "CapBnd": both, "NoNewPrivs": "1"},
	} {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", p.pid()))
		if err != nil || len(threads) < 2 {
			t.Fatalf("%d threads, %v", len(threads), err)
		}
		for _, thread := range threads {
			tid, _ := strconv.Atoi(filepath.Base(thread))
			got := status(t, tid)
			for name, value := range want {
				if got[name] != value {
					t.Errorf("%s: %s is %s, want %s", p.name, name, got[name], value)
				}
			}
		}
	}
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", s.pid()))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range files {
		if at, _ := os.Readlink(fd); strings.Contains(at, "secrets") || strings.Contains(at, "issuer") {
			t.Errorf("egret steer has %s open", at)
		}
	}
}

// resources are what a process holds.
func (p *program) resources(t *testing.T) string {
	t.Helper()
	kinds := map[string]int{}
	list, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.pid()))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range list {
		at, err := os.Readlink(fd)
		if err != nil {
			continue
		}
		kinds[regexp.MustCompile(`[:\[0-9].*`).ReplaceAllString(filepath.Base(at), "")]++
	}
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", p.pid()))
	return fmt.Sprintf("%v, children: %q", kinds, children)
}

// goroutines of egret run, as it tells itself.
func (w *world) goroutines(t *testing.T) int {
	t.Helper()
	found := regexp.MustCompile(`(?m)^go_goroutines (\d+)`).FindStringSubmatch(w.onNode(t, "curl", "-sS", "http://127.0.0.1:8633/metrics"))
	if found == nil {
		t.Fatal("no metrics")
	}
	n, _ := strconv.Atoi(found[1])
	return n
}

// TestTenThousandConnections: from all pods at once, none fails, each has its own pod's
// credential, and both processes hold afterwards what they held before.
func TestTenThousandConnections(t *testing.T) {
	w, e, s := newNode(t)
	warm := func(total, parallel int) (failed string) {
		var all []*workload
		for _, p := range w.pods {
			all = append(all, p.begin(t, task{Total: total, Parallel: parallel, Wait: time.Minute}))
		}
		for i, x := range all {
			if o := x.wait(t, 3*time.Minute); o.OK != int64(total) {
				failed += fmt.Sprintf("pod%d: %+v\n", i, o)
			}
		}
		return failed
	}
	if failed := warm(40, 8); failed != "" {
		t.Fatal(failed)
	}
	time.Sleep(500 * time.Millisecond)
	steer, held, before := s.resources(t), e.sockets(), w.goroutines(t)
	total := 1000
	if testing.Short() {
		total = 100
	}
	start := time.Now()
	if failed := warm(total, 8); failed != "" {
		t.Error(failed)
	}
	t.Logf("%d connections in %s", total*podCount, time.Since(start))
	w.arrivals.HoldOwn(t, total*podCount)
	w.packets.holdNone(t)
	after := 0
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if after = w.goroutines(t); after <= before+20 {
			break
		}
	}
	t.Logf("goroutines of egret run: before %d, after %d", before, after)
	if after > before+20 {
		t.Errorf("egret run had %d goroutines and has %d", before, after)
	}
	if now := s.resources(t); now != steer {
		t.Errorf("egret steer held %s and holds %s", steer, now)
	}
	if now := e.sockets(); now > held+20 { // connections to the SaaS that are kept for the next
		t.Errorf("egret run held %d sockets and holds %d", held, now)
	}
}

// sockets is how many a process holds.
func (p *program) sockets() (n int) {
	list, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.pid()))
	for _, fd := range list {
		if at, _ := os.Readlink(fd); strings.HasPrefix(at, "socket:") {
			n++
		}
	}
	return n
}

// comeAndGo makes a namespace under a name in the folder, has it for a while, and ends it.
func (w *world) comeAndGo(name string, stay time.Duration) error {
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends in its namespace
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- err
			return
		}
		path := w.file("netns/" + name)
		err := os.WriteFile(path, nil, 0o444)
		if err == nil {
			err = unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), path, "", unix.MS_BIND, "")
		}
		made <- err
	}()
	if err := <-made; err != nil {
		return err
	}
	time.Sleep(stay)
	unbind(w.file("netns/" + name))
	return nil
}

// TestChurn: while ten pods are served, 100 namespaces a second come and go, under new names
// and under one that is used again and again. No call of the ten fails, what stays is steered,
// and nothing is left of what is gone.
func TestChurn(t *testing.T) {
	w, e, s := newNode(t)
	var loads []*workload
	for _, p := range w.pods[:3] {
		loads = append(loads, p.begin(t, task{Tell: true}))
	}
	waitFor(t, "every pod is served", func() bool { return loads[0].oks.Load() > 5 && loads[2].oks.Load() > 5 })
	steer := s.resources(t)
	held := e.sockets()
	const churn, rate = 300, 100
	failed := make(chan error, churn)
	start := time.Now()
	for n := range churn {
		name := fmt.Sprintf("churn%d", n)
		if n%3 == 0 {
			name = fmt.Sprintf("reused%d", n%2) // as soon as it is free
		}
		go func() { failed <- w.comeAndGo(name, 200*time.Millisecond) }()
		time.Sleep(time.Until(start.Add(time.Duration(n+1) * time.Second / rate)))
	}
	collisions := 0
	for range churn {
		if err := <-failed; err != nil {
			collisions++
		}
	}
	t.Logf("%d namespaces came and went in %s, %d names were taken", churn, time.Since(start), collisions)
	waitFor(t, "what is gone is forgotten", func() bool { return len(w.listed(t)) == podCount })
	t.Logf("in step %s after the first", time.Since(start))
	w.awaitServed(t, podCount)
	w.endAll(t, loads, 0)
	waitFor(t, "egret steer holds what it held", func() bool { return s.resources(t) == steer })
	waitFor(t, "egret run holds what it held", func() bool { return e.sockets() <= held+5 })
	if strings.Contains(s.logged(), "port is taken") {
		t.Error("a port was taken")
	}
	w.packets.holdNone(t)
}
