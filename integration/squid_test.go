// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package integration

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// squid is a corporate proxy: it resolves names itself and wants a user and password.
type squid struct {
	address string
	dir     string
}

const squidConf = `http_port %[1]s
visible_hostname squid
pid_filename none
pinger_enable off
cache deny all
shutdown_lifetime 0 seconds
hosts_file %[2]s/hosts
access_log stdio:%[2]s/access.log
cache_log %[2]s/cache.log
coredump_dir %[2]s
auth_param basic program /usr/lib/squid/basic_ncsa_auth %[2]s/users
acl known proxy_auth REQUIRED
acl tunnel method CONNECT
http_access allow tunnel known
http_access deny all
`

func startSquid(t *testing.T, password string) *squid {
	t.Helper()
	dir, err := os.MkdirTemp("", "egret-squid-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &squid{address: freeAddress(t), dir: dir}
	hash, err := exec.Command("openssl", "passwd", "-apr1", password).Output()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"squid.conf": fmt.Sprintf(squidConf, s.address, dir),
		"hosts":      "127.0.0.1 corporate.egret.test\n",
		"users":      "egret:" + string(hash),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("chown", "-R", "proxy:proxy", dir).CombinedOutput(); err != nil { // squid gives root up
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command("squid", "-N", "-f", filepath.Join(dir, "squid.conf"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	s.wait(t)
	return s
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func (s *squid) wait(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if c, err := net.Dial("tcp", s.address); err == nil {
			_ = c.Close()
			return
		}
	}
	t.Fatalf("squid does not listen:\n%s", s.text("cache.log"))
}

func (s *squid) text(name string) string {
	b, _ := os.ReadFile(filepath.Join(s.dir, name))
	return string(b)
}

// Where the only way out is a corporate proxy, egret goes through it with its own
// password; the corporate proxy sees a tunnel and nothing of what is in it.
func TestCorporateProxy(t *testing.T) {
	w := newWorld(t)
	s := startSquid(t, "of the node, not of the client")
	e := w.start(t, "http://"+s.address)
	_, port, err := net.SplitHostPort(w.twins.Addr())
	if err != nil {
		t.Fatal(err)
	}
	url := "https://corporate.egret.test:" + port
	got := e.exec(t, "sidecar", command{argv: []string{"curl", "-sSi", url + "/public/x"}})
	if got.code != 0 || !strings.Contains(got.stdout, `"path":"/public/x"`) {
		t.Errorf("exit %d\n%s", got.code, got.all())
	}
	if list := w.arrivals.take(); len(list) != 1 || !list[0].Ours {
		t.Errorf("arrived: %+v", list)
	}
	got = e.exec(t, "sidecar", command{argv: []string{"curl", "-sSi", url + "/private/x"}})
	if !strings.Contains(got.stdout, "policy; reason=path_not_allowed") || len(w.arrivals.take()) != 0 {
		t.Errorf("not refused\n%s", got.all())
	}
	e.Stop()
	access := s.text("access.log")
	if !strings.Contains(access, "CONNECT corporate.egret.test:"+port+" egret ") || strings.Contains(access, "/public") {
		t.Errorf("squid's log is not that of one tunnel of egret's user:\n%s", access)
	}
}

// A wrong password is told as an upstream that cannot be reached, without the words of
// the corporate proxy.
func TestCorporateProxyRefuses(t *testing.T) {
	w := newWorld(t)
	s := startSquid(t, "another")
	e := w.start(t, "http://"+s.address)
	_, port, _ := net.SplitHostPort(w.twins.Addr())
	got := e.exec(t, "sidecar", command{argv: []string{"curl", "-sSi", "https://corporate.egret.test:" + port + "/public/x"}})
	if !strings.Contains(got.stdout, " 502") || !strings.Contains(got.stdout, "upstream; reason=") || strings.Contains(strings.ToLower(got.stdout), "squid") {
		t.Errorf("exit %d\n%s", got.code, got.all())
	}
	if list := w.arrivals.take(); len(list) != 0 {
		t.Errorf("arrived: %+v", list)
	}
}
