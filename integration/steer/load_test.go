// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package steer

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// asLoad makes a copy of the test binary a workload that calls, each time by a connection
// of its own, and prints what became of it.
const asLoad = "EGRET_TEST_LOAD"

// task is what a workload does.
type task struct {
	Path     string
	Trust    string   // file of the CA
	At       []string // addresses, in turn
	SNI      string
	Total    int // calls; 0: until its standard input ends
	Parallel int
	Wait     time.Duration // of one call
	Tell     bool          // print a line for each call that succeeds
}

// outcome is what became of a task.
type outcome struct {
	OK, Failed int64
	Errors     map[string]int // the first few kinds
	Bad        int64          // answers that are no success
	Slowest    time.Duration
}

func load() int {
	var k task
	if err := json.Unmarshal([]byte(os.Getenv(asLoad)), &k); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); cancel() }()
	out, err := k.run(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	_ = json.NewEncoder(os.Stdout).Encode(out)
	return 0
}

func (k task) client() (*http.Client, error) {
	pem, err := os.ReadFile(k.Trust)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	var turn atomic.Int64
	return &http.Client{Timeout: k.Wait, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(k.At[int(turn.Add(1))%len(k.At)], "443"))
		},
	}}, nil
}

func (k task) run(ctx context.Context) (outcome, error) {
	c, err := k.client()
	if err != nil {
		return outcome{}, err
	}
	o := outcome{Errors: map[string]int{}}
	var mu sync.Mutex
	var begun atomic.Int64
	var running sync.WaitGroup
	for range k.Parallel {
		running.Go(func() {
			for ctx.Err() == nil && (k.Total == 0 || begun.Add(1) <= int64(k.Total)) {
				start := time.Now()
				err := k.call(ctx, c)
				if ctx.Err() != nil {
					return
				}
				mu.Lock()
				o.note(err, time.Since(start))
				mu.Unlock()
				if err != nil {
					time.Sleep(5 * time.Millisecond)
				} else if k.Tell {
					fmt.Println("ok")
				}
			}
		})
	}
	running.Wait()
	return o, nil
}

func (o *outcome) note(err error, took time.Duration) {
	o.Slowest = max(o.Slowest, took)
	var bad badStatus
	switch {
	case err == nil:
		o.OK++
		return
	case errors.As(err, &bad):
		o.Bad++
	}
	o.Failed++
	if text := err.Error(); len(o.Errors) < 10 || o.Errors[text] > 0 {
		o.Errors[text]++
	}
}

type badStatus struct{ text string }

func (b badStatus) Error() string { return b.text }

func (k task) call(ctx context.Context, c *http.Client) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+k.SNI+k.Path, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = badStatus{fmt.Sprintf("%s: %.80s", resp.Status, body)}
	}
	return err
}

// workload is a running task in a pod.
type workload struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	oks  atomic.Int64
	done chan outcome
}

// as makes a command that runs as a pod's workload: in its cgroup, as its user, and, when
// it is started by begin, in its network namespace.
func (p *pod) as(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	fd, err := unix.Open(cgroupMount+p.cgroup, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}
}

// begin starts a task in the pod.
func (p *pod) begin(t *testing.T, k task) *workload {
	t.Helper()
	program := p.w.file("load")
	if _, err := os.Stat(program); err != nil { // where the test is, no other user may look
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		sh(t, "cp", self, program)
		sh(t, "chmod", "0755", program)
	}
	p.fill(&k)
	text, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	x := &workload{cmd: exec.Command(program), done: make(chan outcome, 1)}
	x.cmd.Env, x.cmd.Dir, x.cmd.Stderr = []string{asLoad + "=" + string(text)}, "/", os.Stderr
	p.as(t, x.cmd)
	x.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(p.uid()), Gid: uint32(p.uid())}
	out, err1 := x.cmd.StdoutPipe()
	in, err2 := x.cmd.StdinPipe()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if err := p.netns.Do(x.cmd.Start); err != nil { // a child is in the namespace of the thread that forks
		t.Fatal(err)
	}
	x.in = in
	go x.follow(out)
	t.Cleanup(func() { x.end() })
	return x
}

func (p *pod) fill(k *task) {
	k.Trust = p.w.file("trust/bundle.pem")
	if k.SNI == "" {
		k.SNI = hosts()[0]
	}
	if k.At == nil {
		k.At = []string{addressOf(k.SNI, false), addressOf(k.SNI, true)}
	}
	if k.Path == "" {
		k.Path = "/public/" + p.name() + "/load"
	}
	if k.Parallel == 0 {
		k.Parallel = 1
	}
	if k.Wait == 0 {
		k.Wait = 30 * time.Second
	}
}

func (x *workload) follow(r io.Reader) {
	var o outcome
	for lines := bufio.NewScanner(r); lines.Scan(); {
		if lines.Text() == "ok" {
			x.oks.Add(1)
		} else if json.Unmarshal(lines.Bytes(), &o) != nil {
			o.Errors = map[string]int{lines.Text(): 1}
		}
	}
	_ = x.cmd.Wait()
	x.done <- o
	close(x.done)
}

// wait returns what became of a task with an end.
func (x *workload) wait(t *testing.T, within time.Duration) outcome {
	t.Helper()
	select {
	case o := <-x.done:
		return o
	case <-time.After(within):
		t.Fatalf("a workload has not ended after %s", within)
	}
	return outcome{}
}

// end stops a task without one.
func (x *workload) end() outcome {
	_ = x.in.Close()
	late := time.AfterFunc(10*time.Second, func() { _ = x.cmd.Process.Kill() })
	defer late.Stop()
	return <-x.done
}

// call runs a client of the real world as the pod's workload, who has no idea of egret but
// its CA.
func (p *pod) call(t *testing.T, argv ...string) (code int, out string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	id := fmt.Sprint(p.uid())
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", p.ns, "setpriv", "--reuid", id, "--regid", id, "--clear-groups"}, argv...)...)
	bundle := p.w.file("trust/bundle.pem")
	cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+bundle, "CURL_CA_BUNDLE="+bundle, "REQUESTS_CA_BUNDLE="+bundle, "NODE_EXTRA_CA_CERTS="+bundle, "HOME=/nonexistent")
	cmd.Dir = "/"
	p.as(t, cmd)
	text, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(text)
}
