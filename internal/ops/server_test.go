// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// callEnv makes the test binary a client of the admin socket that it names, so that a
// test can call as another user.
const callEnv = "EGRET_TEST_CALL"

func TestMain(m *testing.M) {
	if socket := os.Getenv(callEnv); socket != "" {
		err := Do(context.Background(), Dial(socket), Call{Method: "POST", Path: "/v1/revoke"})
		fmt.Println(err)
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// serve runs a server for the length of the test.
func serve(t *testing.T, s interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
}, ln net.Listener) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := errors.Join(s.Shutdown(ctx), <-ended); err != nil {
			t.Errorf("server ended with %v", err)
		}
	})
}

func loopback(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// shortDir is a folder whose name leaves room for a socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "eg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestServerLimitsConnections(t *testing.T) {
	ln := newLimited(loopback(t), 1)
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	for range 2 {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	first := <-accepted
	select {
	case <-accepted:
		t.Fatal("a second connection was accepted")
	case <-time.After(20 * time.Millisecond):
	}
	_ = first.Close()
	_ = first.Close() // frees one place, not two
	second := <-accepted
	_ = ln.Close() // while Accept waits for a place
	if _, more := <-accepted; more {
		t.Error("accepted after Close")
	}
	_ = second.Close()
}

func TestServerHeaderBound(t *testing.T) {
	ln := loopback(t)
	serve(t, NewServer(http.NotFoundHandler(), nil), ln)
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() {
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("a", 3*maxHeaderBytes)+"\r\n\r\n")
	}()
	b := make([]byte, 12)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "HTTP/1.1 431" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestServerCutsOffWhatDoesNotEnd(t *testing.T) {
	ln, inside := loopback(t), make(chan struct{})
	s := NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(inside)
		<-r.Context().Done()
	}), nil)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ln) }()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-inside
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown: %v", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestListenFaults(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(t *testing.T, dir string) error
		path    string
		want    string
	}{
		"too long":    {path: strings.Repeat("x", 120), want: "fit; use a shorter path"},
		"no folder":   {path: "missing/s", want: "no such file or directory"},
		"a file":      {path: "s", want: "exists and is not a socket: remove it or name another path", prepare: touch("s")},
		"a file .new": {path: "s", want: "exists and is not a socket", prepare: touch("s.new")},
		"open folder": {path: "s", want: "anybody may replace files in", prepare: func(_ *testing.T, dir string) error {
			return os.Chmod(dir, 0o777)
		}},
		"in use": {path: "s", want: "is in use: another egret serves it", prepare: func(t *testing.T, dir string) error {
			ln, err := listenSocket(filepath.Join(dir, "s"), 0o600)
			if err == nil {
				t.Cleanup(func() { _ = ln.Close() })
			}
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := shortDir(t)
			if tc.prepare != nil {
				if err := tc.prepare(t, dir); err != nil {
					t.Fatal(err)
				}
			}
			ln, err := listenSocket(filepath.Join(dir, tc.path), 0o600)
			if err == nil {
				_ = ln.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func touch(name string) func(*testing.T, string) error {
	return func(_ *testing.T, dir string) error { return os.WriteFile(filepath.Join(dir, name), nil, 0o600) }
}

// leaveSocket leaves a socket that nobody serves, as a crash does.
func leaveSocket(t *testing.T, path string) {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	_ = ln.Close()
}

func TestListenReplacesWhatACrashLeft(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	leaveSocket(t, path)
	leaveSocket(t, path+newSuffix)
	ln, err := listenSocket(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Mode() != os.ModeSocket|0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	if ln.Addr().String() != path {
		t.Errorf("address %s", ln.Addr())
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is still there")
	}
}

func TestCloseLeavesTheSuccessorsSocket(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	ln, err := listenSocket(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	successor, err := listenSocket(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer successor.Close()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
}

func answer(h http.Handler, method, target string) *httptest.ResponseRecorder {
	return answerRequest(h, httptest.NewRequest(method, target, nil))
}

func answerRequest(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}
