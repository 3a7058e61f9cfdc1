// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/egret-proxy/egret/cmd/egret/internal/nodetest"
	"github.com/egret-proxy/egret/identity/embedded"
)

// process is the real program, started by a test.
type process struct {
	cmd *exec.Cmd
	log string
}

// startProgram starts egret run in the world's folder. The shell gives it what only a
// parent can.
func startProgram(t *testing.T, w *nodetest.World, adapt func(*exec.Cmd), shell string) *process {
	t.Helper()
	path, err := exec.LookPath("egret")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(w.Dir, "egret") // where another user may run it
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, b, 0o755); err != nil {
		t.Fatal(err)
	}
	p := &process{log: filepath.Join(w.Dir, "egret.log")}
	f, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p.cmd = exec.Command("sh", "-c", shell+" exec "+program+" run -c egret.yaml")
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr, p.cmd.Env = w.Dir, f, f, []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + w.Dir}
	adapt(p.cmd)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		if t.Failed() {
			t.Log(p.text(t))
		}
	})
	p.wait(t, `"msg":"ready"`)
	return p
}

func (p *process) text(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(p.log)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (p *process) wait(t *testing.T, what string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !strings.Contains(p.text(t), what); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s in\n%s", what, p.text(t))
		}
	}
}

// proc reads a file of the process.
func (p *process) proc(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func scriptWorld(t *testing.T) *nodetest.World {
	t.Helper()
	dir, err := os.MkdirTemp("", "egp")
	if err != nil {
		t.Fatal(err)
	}
	w, err := nodetest.New(dir, embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Close()
		_ = os.RemoveAll(dir)
	})
	return w
}

func adaptFile(t *testing.T, w *nodetest.World, name string, pairs ...string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(w.Dir, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(name, strings.NewReplacer(pairs...).Replace(string(b))); err != nil {
		t.Fatal(err)
	}
}

// request asks through the proxy without trusting it: the answer's decision is what
// matters.
func request(t *testing.T, proxy, method, target string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "curl", "-sS", "-k", "-i", "-X", method, "-x", "http://"+proxy, target).CombinedOutput()
	if err != nil {
		return err.Error() + string(out)
	}
	return string(out)
}

func TestSocketActivation(t *testing.T) {
	t.Parallel()
	needCurl(t)
	w := scriptWorld(t)
	adaptFile(t, w, "egret.yaml", "address: 127.0.0.1:0, kind", "address: systemd:local, kind")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := startProgram(t, w, func(cmd *exec.Cmd) {
		for _, l := range []net.Listener{l, other} {
			f, err := l.(*net.TCPListener).File()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = f.Close() })
			cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		}
	}, "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=local:other")
	addr := l.Addr().String()
	if err := l.Close(); err != nil { // egret's copy serves
		t.Fatal(err)
	}
	if got := request(t, addr, "GET", "https://api.qase.io/v1/project"); !strings.Contains(got, `"status":true`) {
		t.Errorf("through the inherited socket: %s", got)
	}
	if !strings.Contains(p.text(t), `systemd passed a socket that no listener names`) {
		t.Error("the other socket is not told of")
	}
}

func needCurl(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("no curl: ", err)
	}
}

// TestMUST_C9_NothingSecretLeavesTheProcess: after a run with failures no secret is in
// its log, records, metrics, arguments or environment, and the process leaves no core
// and lets nobody of its own user look into it.
func TestMUST_C9_NothingSecretLeavesTheProcess(t *testing.T) {
	t.Parallel()
	needCurl(t)
	w := scriptWorld(t)
	uid := os.Getuid()
	if uid == 0 { // as root everything is root's: run it as somebody
		uid = 4242
		adaptFile(t, w, "egret.yaml", `workloadAPI: "unix://`+w.Socket()+`"`, `embedded: {spiffeID: "`+nodetest.Dashboard+`"}`)
		if err := filepath.WalkDir(w.Dir, func(path string, _ os.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(path, uid, uid))
		}); err != nil {
			t.Fatal(err)
		}
	}
	as := &syscall.SysProcAttr{}
	if os.Getuid() == 0 {
		as.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
	}
	p := startProgram(t, w, func(cmd *exec.Cmd) { cmd.SysProcAttr = as }, "")
	log := p.text(t)
	proxy, metrics := field(t, log, `"listener":"sidecar","address":"`), field(t, log, `"msg":"metrics and health","address":"`)
	secret := w.Key.Reveal()
	for _, target := range []string{
		"https://api.qase.io/v1/project", "https://api.qase.io/v1/run/WEB?token=" + secret, "https://slack.com/api/auth.test",
		"https://api.pagerduty.com/oncalls", "https://unlisted.example/", "http://api.qase.io/?key=" + secret,
	} {
		cmd := exec.CommandContext(t.Context(), "curl", "-sS", "-k", "-x", "http://"+proxy, "-H", "Authorization: Bearer "+secret, target)
		cmd.SysProcAttr = as
		_, _ = cmd.CombinedOutput() // most are refused, and must be
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: func(*http.Request) (*url.URL, error) { return nil, nil }}}).Get("http://" + metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	p.wait(t, `"msg":"ready"`)
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if b, _ := os.ReadFile(filepath.Join(w.Dir, "audit.jsonl")); bytes.Count(b, []byte("\n")) >= 5 {
			break
		}
	}
	records, err := os.ReadFile(filepath.Join(w.Dir, "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Count(records, []byte(`"verdict":"deny"`)) < 2 || !bytes.Contains(records, []byte(`"verdict":"allow"`)) {
		t.Errorf("the run had too little in it:\n%s", records)
	}
	for name, text := range map[string]string{
		"log": p.text(t), "records": string(records), "metrics": string(page), "arguments": p.proc(t, "cmdline"), "environment": environOf(t, p),
	} {
		for _, s := range []string{secret, "pd-client-secret-never-used", "eyJ", "PRIVATE KEY"} {
			if strings.Contains(text, s) {
				t.Errorf("a secret is in its %s", name)
			}
		}
	}
	if !strings.Contains(strings.Join(strings.Fields(p.proc(t, "limits")), " "), "Max core file size 0 0 bytes") {
		t.Errorf("limits:\n%s", p.proc(t, "limits"))
	}
	var st syscall.Stat_t
	if err := syscall.Stat(fmt.Sprintf("/proc/%d/mem", p.cmd.Process.Pid), &st); err != nil || st.Uid != 0 {
		t.Errorf("/proc/PID/mem belongs to uid %d, %v: the process can be looked into", st.Uid, err)
	}
}

// environOf reads the environment, which the kernel hides from everybody but root.
func environOf(t *testing.T, p *process) string {
	if os.Getuid() != 0 {
		return ""
	}
	return p.proc(t, "environ")
}

func field(t *testing.T, text, before string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, before)
	value, _, closed := strings.Cut(rest, `"`)
	if !ok || !closed {
		t.Fatalf("no %s in\n%s", before, text)
	}
	return value
}
