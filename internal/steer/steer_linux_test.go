// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package steer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/egret-proxy/egret/internal/netns"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testPort = 8651

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newNetNS makes a network namespace and mounts it as a file, as ip netns does.
func newNetNS(t testing.TB) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces are made by root")
	}
	path := filepath.Join(t.TempDir(), "ns")
	check(t, os.WriteFile(path, nil, 0o600))
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
		}
		done <- err
	}()
	check(t, <-done)
	t.Cleanup(func() { check(t, unix.Unmount(path, unix.MNT_DETACH)) })
	return path
}

// noRules counts what would be installed.
type noRules struct {
	mu      sync.Mutex
	in, out int
	refuses error
	gate    func() // called before rules are installed
	cookies []uint64
}

func (r *noRules) Install(context.Context) error {
	if r.gate != nil {
		r.gate()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.in++
	c, err := cookieHere()
	r.cookies = append(r.cookies, c)
	return errors.Join(err, r.refuses)
}

func (r *noRules) Remove(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.out++
	return nil
}

// echo is a Handler that answers every connection with the pod's key.
type echo struct {
	mu      sync.Mutex
	serving map[string]*served
	begun   []string
	ended   []string
	refuses error
}

type served struct {
	listeners []net.Listener
	diag      *os.File
	wg        sync.WaitGroup
}

func newEcho() *echo { return &echo{serving: map[string]*served{}} }

func (e *echo) Serve(p Pod, listeners []net.Listener, diag *os.File) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.refuses != nil {
		return e.refuses
	}
	s := &served{listeners: listeners, diag: diag}
	e.serving[p.Key], e.begun = s, append(e.begun, p.Key)
	for _, l := range listeners {
		s.wg.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				s.wg.Go(func() {
					_, _ = fmt.Fprintln(c, p.Key)
					_, _ = io.Copy(c, c)
					_ = c.Close()
				})
			}
		})
	}
	return nil
}

func (e *echo) Stop(p Pod) {
	e.mu.Lock()
	s := e.serving[p.Key]
	delete(e.serving, p.Key)
	e.ended = append(e.ended, p.Key)
	e.mu.Unlock()
	for _, l := range s.listeners {
		_ = l.Close()
	}
	_ = s.diag.Close()
}

func (e *echo) counts() (begun, ended int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.begun), len(e.ended)
}

// world is a Steersman and a Receiver, each of which can be ended and begun again.
type world struct {
	t      testing.TB
	socket string
	rules  *noRules
	m      *Steersman
	endM   func()
	r      *Receiver
	endR   func()
}

func newWorld(t testing.TB) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "steer")
	check(t, err)
	w := &world{t: t, socket: filepath.Join(dir, "s"), rules: &noRules{}, endM: func() {}, endR: func() {}}
	t.Cleanup(func() {
		w.endR()
		w.endM()
		_ = os.RemoveAll(dir)
	})
	return w
}

func (w *world) log(who string) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{w.t, who}, nil))
}

type testWriter struct {
	t   testing.TB
	who string
}

func (w testWriter) Write(p []byte) (int, error) { w.t.Logf("%s %s", w.who, p); return len(p), nil }

func (w *world) steersman() *Steersman {
	w.t.Helper()
	m, err := New(Options{Rules: w.rules, Port: testPort, UID: uint32(os.Getuid()), Log: w.log("steersman")})
	check(w.t, err)
	_ = os.Remove(w.socket)
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: w.socket, Net: "unixpacket"})
	check(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = m.Serve(ctx, l) })
	w.m, w.endM = m, sync.OnceFunc(func() { cancel(); wg.Wait(); m.Close() })
	return m
}

func (w *world) receiver(h Handler) *Receiver {
	r := NewReceiver(ReceiverOptions{Socket: w.socket, Handler: h, Log: w.log("receiver")})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { r.Run(ctx) })
	w.r, w.endR = r, sync.OnceFunc(func() { cancel(); wg.Wait() })
	return r
}

func (w *world) add(key, path string) error {
	w.t.Helper()
	f, err := netns.Open(path)
	if err != nil {
		return err
	}
	return w.m.Add(w.t.Context(), Pod{Key: key}, f)
}

func (w *world) served(key string) error {
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	return w.m.Served(ctx, key)
}

// dial connects from within a namespace.
func dial(t testing.TB, path, address string) net.Conn {
	t.Helper()
	f, err := netns.Open(path)
	check(t, err)
	defer f.Close()
	var c net.Conn
	check(t, f.Do(func() (err error) { c, err = net.DialTimeout("tcp", address, 5*time.Second); return err }))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// said is what a connection is told first.
func said(t testing.TB, c net.Conn) string {
	t.Helper()
	check(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	b := make([]byte, 64)
	n, err := c.Read(b)
	check(t, err)
	return string(b[:n])
}

func TestSteer(t *testing.T) {
	a, b := newNetNS(t), newNetNS(t)
	w := newWorld(t)
	h := newEcho()
	w.steersman().Settled()
	w.receiver(h)
	check(t, w.add("a", a))
	check(t, w.add("b", b))
	check(t, w.served("a"))
	check(t, w.served("b"))
	for path, key := range map[string]string{a: "a\n", b: "b\n"} {
		for _, addr := range []string{"127.0.0.1", "[::1]"} {
			if got := said(t, dial(t, path, fmt.Sprintf("%s:%d", addr, testPort))); got != key {
				t.Errorf("%s: served as %q, want %q", addr, got, key)
			}
		}
	}
	eventually(t, "the Receiver to be in step", func() bool { return w.r.Health() == nil })
	if got := w.m.Status(); len(got) != 2 || got[0].State != "served" || got[0].NetNS == got[1].NetNS || !slices.Contains(w.rules.cookies, got[0].NetNS) {
		t.Errorf("%+v, rules in %v", got, w.rules.cookies)
	}
	w.m.Remove(t.Context(), "a")
	eventually(t, "a to be left", func() bool { _, ended := h.counts(); return ended == 1 })
	if w.rules.out != 1 {
		t.Errorf("rules removed %d times", w.rules.out)
	}
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// A Receiver that comes back gets the same sockets, and serves who has waited meanwhile.
func TestReceiverRestart(t *testing.T) {
	a := newNetNS(t)
	w := newWorld(t)
	w.steersman().Settled()
	w.receiver(newEcho())
	check(t, w.add("a", a))
	check(t, w.served("a"))
	w.endR()
	waiting := dial(t, a, fmt.Sprintf("127.0.0.1:%d", testPort)) // in the backlog
	w.receiver(newEcho())
	if got := said(t, waiting); got != "a\n" {
		t.Errorf("served as %q", got)
	}
	if w.rules.in != 1 || w.rules.out != 0 {
		t.Errorf("rules were touched: in %d, out %d", w.rules.in, w.rules.out)
	}
}

// A Steersman that comes back is given the sockets that it made before: nothing is cut,
// nothing is served anew, and no connection is refused.
func TestSteersmanRestart(t *testing.T) {
	a, gone := newNetNS(t), newNetNS(t)
	w := newWorld(t)
	h := newEcho()
	w.steersman().Settled()
	w.receiver(h)
	check(t, w.add("a", a))
	check(t, w.add("gone", gone))
	check(t, w.served("a"))
	check(t, w.served("gone"))
	live := dial(t, a, fmt.Sprintf("127.0.0.1:%d", testPort))
	said(t, live)
	w.endM()
	said(t, dial(t, a, fmt.Sprintf("127.0.0.1:%d", testPort))) // there is none, and it is served
	w.steersman()
	check(t, w.add("a", a)) // before or after the Receiver has come: both work
	w.m.Settled()
	check(t, w.served("a"))
	eventually(t, "what is not steered any more to be left", func() bool { _, ended := h.counts(); return ended == 1 })
	if begun, _ := h.counts(); begun != 2 {
		t.Errorf("served %d times", begun)
	}
	_, err := live.Write([]byte("x"))
	check(t, err)
	if got := said(t, live); got != "x" {
		t.Errorf("a connection was cut: %q", got)
	}
	w.m.Remove(t.Context(), "a")
	eventually(t, "a to be left", func() bool { _, ended := h.counts(); return ended == 2 })
}

// Two pods of one name, one after the other, are two.
func TestNamesAreUsedAgain(t *testing.T) {
	first, second := newNetNS(t), newNetNS(t)
	w := newWorld(t)
	h := newEcho()
	w.steersman().Settled()
	w.receiver(h)
	check(t, w.add("a", first))
	check(t, w.served("a"))
	was := w.m.Status()[0].NetNS
	check(t, w.add("a", first)) // again: nothing happens
	check(t, w.add("a", second))
	check(t, w.served("a"))
	if now := w.m.Status(); len(now) != 1 || now[0].NetNS == was {
		t.Errorf("%+v", now)
	}
	said(t, dial(t, second, fmt.Sprintf("127.0.0.1:%d", testPort)))
	if begun, ended := h.counts(); begun != 2 || ended != 1 || w.rules.out != 1 {
		t.Errorf("begun %d, ended %d, rules removed %d", begun, ended, w.rules.out)
	}
}

func TestAddRefuses(t *testing.T) {
	a, b := newNetNS(t), newNetNS(t)
	w := newWorld(t)
	w.steersman().Settled()
	w.m.o.Max = 1
	if err := w.add("host", "/proc/thread-self/ns/net"); !errors.Is(err, ErrHostNetwork) {
		t.Errorf("the host's network: %v", err)
	}
	if err := w.add("mount", "/proc/self/ns/mnt"); !errors.Is(err, netns.ErrNotNamespace) {
		t.Errorf("a mount namespace: %v", err)
	}
	if _, err := netns.Open(filepath.Join(t.TempDir(), "x")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
	file := filepath.Join(t.TempDir(), "x")
	check(t, os.WriteFile(file, nil, 0o600))
	if _, err := netns.Open(file); !errors.Is(err, netns.ErrNotNamespace) {
		t.Errorf("an ordinary file: %v", err)
	}
	for _, key := range []string{"", "a b", "a\nb", string(make([]byte, 300))} {
		if err := w.add(key, a); err == nil {
			t.Errorf("key %q was taken", key)
		}
	}
	check(t, w.add("a", a))
	if err := w.add("same", a); err == nil {
		t.Error("one namespace under two keys")
	}
	if err := w.add("b", b); !errors.Is(err, ErrFull) {
		t.Errorf("more than there is room for: %v", err)
	}
}

// A process of the pod that has taken the port is found out, and nobody is served.
func TestPortTakenByThePod(t *testing.T) {
	a := newNetNS(t)
	f, err := netns.Open(a)
	check(t, err)
	defer f.Close()
	check(t, f.Do(loopbackUp))
	var squatter *os.File
	check(t, f.Do(func() (err error) { squatter, err = listen("tcp4", fmt.Sprintf("127.0.0.1:%d", testPort)); return err }))
	defer squatter.Close()
	w := newWorld(t)
	h := newEcho()
	w.steersman().Settled()
	w.receiver(h)
	eventually(t, "the receiver", func() bool { return w.r.Health() == nil })
	if err := w.add("a", a); !errors.Is(err, ErrPortTaken) {
		t.Errorf("told: %v", err)
	}
	w.endR()
	w.m.Remove(t.Context(), "a")
	eventually(t, "the session to end", func() bool { w.m.mu.Lock(); defer w.m.mu.Unlock(); return len(w.m.sessions) == 0 })
	check(t, w.add("a", a)) // it may be a receiver's, until one says that it is not
	w.receiver(h)
	if err := w.served("a"); !errors.Is(err, ErrPortTaken) {
		t.Errorf("told later: %v", err)
	}
	if begun, _ := h.counts(); begun != 0 {
		t.Error("somebody was served")
	}
}

func TestRefusalsAreTold(t *testing.T) {
	a := newNetNS(t)
	w := newWorld(t)
	h := newEcho()
	h.refuses = errors.New("no resolver")
	w.steersman().Settled()
	w.receiver(h)
	check(t, w.add("a", a))
	if err := w.served("a"); err == nil || err.Error() != "no resolver" {
		t.Errorf("the receiver's refusal: %v", err)
	}
	w.rules.refuses = errors.New("no nft")
	if err := w.add("b", newNetNS(t)); err == nil {
		t.Error("without rules")
	}
	if err := w.served("b"); err == nil {
		t.Error("without rules, and served")
	}
	if err := w.served("c"); err == nil {
		t.Error("nobody has added it")
	}
}
