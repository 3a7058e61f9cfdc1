// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package testbed

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const spireServer = `server {
  bind_address = "127.0.0.1"
  bind_port = "%[2]d"
  socket_path = "%[1]s/server.sock"
  trust_domain = "acme.example"
  data_dir = "%[1]s/server"
  log_level = "WARN"
  jwt_issuer = "https://oidc.acme.example"
}
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3"  connection_string = "%[1]s/server/db" } }
  KeyManager "memory" { plugin_data {} }
  NodeAttestor "join_token" { plugin_data {} }
}
`

const spireAgent = `agent {
  data_dir = "%[1]s/agent"
  log_level = "WARN"
  server_address = "127.0.0.1"
  server_port = "%[2]d"
  socket_path = "%[1]s/api/api.sock"
  insecure_bootstrap = true
  trust_domain = "acme.example"
}
plugins {
  KeyManager "memory" { plugin_data {} }
  NodeAttestor "join_token" { plugin_data {} }
  WorkloadAttestor "unix" { plugin_data {} }
}
`

// spireTime is how long a step of SPIRE may take.
const spireTime = 60 * time.Second

// SPIRE is a server and an agent of the trust domain acme.example, to which every program
// of root is one workload. Its JWT-SVIDs are issued by https://oidc.acme.example.
type SPIRE struct {
	t    testing.TB
	bin  string
	dir  string
	logs Log
}

// StartSPIRE runs both until the test's end, with their files below a folder whose path is
// short (sockets), and waits until the workload has its SVID. build is the path of
// integration/spire/build.sh; options are more of the workload's entry.
func StartSPIRE(t testing.TB, build, dir, id string, options ...string) *SPIRE {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the entry is for root: only root's programs are told apart from others'")
	}
	s := &SPIRE{t: t, bin: Built(t, build), dir: dir}
	var err error
	for _, sub := range []string{"", "server", "agent", "api"} {
		err = errors.Join(err, os.MkdirAll(filepath.Join(dir, sub), 0o755))
	}
	port := FreePort(t)
	err = errors.Join(err,
		os.WriteFile(filepath.Join(dir, "server.conf"), fmt.Appendf(nil, spireServer, dir, port), 0o600),
		os.WriteFile(filepath.Join(dir, "agent.conf"), fmt.Appendf(nil, spireAgent, dir, port), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("SPIRE:\n%s", Tail(s.logs.String()))
		}
	})
	s.run("spire-server", "-config", filepath.Join(dir, "server.conf"))
	const node = "spiffe://acme.example/node"
	token := strings.TrimSpace(strings.TrimPrefix(s.Server("token", "generate", "-spiffeID", node), "Token: "))
	s.Server(append([]string{"entry", "create", "-parentID", node, "-spiffeID", id, "-selector", "unix:uid:0"}, options...)...)
	s.run("spire-agent", "-config", filepath.Join(dir, "agent.conf"), "-joinToken", token)
	s.await("spire-agent", "api", "fetch", "x509", "-socketPath", filepath.Join(dir, "api/api.sock"))
	return s
}

// Address is that of the Workload API.
func (s *SPIRE) Address() string { return "unix://" + filepath.Join(s.dir, "api/api.sock") }

// Server runs a command of spire-server until it succeeds, and returns what it prints.
func (s *SPIRE) Server(args ...string) string {
	s.t.Helper()
	return s.await("spire-server", append(args, "-socketPath", filepath.Join(s.dir, "server.sock"))...)
}

func (s *SPIRE) run(name string, args ...string) {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(s.bin, name), append([]string{"run"}, args...)...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = &s.logs, &s.logs, s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
}

func (s *SPIRE) await(name string, args ...string) string {
	s.t.Helper()
	for end := time.Now().Add(spireTime); ; time.Sleep(200 * time.Millisecond) {
		out, err := exec.Command(filepath.Join(s.bin, name), args...).CombinedOutput()
		if err == nil {
			return string(out)
		}
		if time.Now().After(end) {
			s.t.Fatalf("%s %s: %v: %s", name, args[0], err, out)
		}
	}
}
