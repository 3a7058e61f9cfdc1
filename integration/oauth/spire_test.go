// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package oauth

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

const serverConf = `
server {
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

const agentConf = `
agent {
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

// spireWorld has a SPIRE server and agent, whose one workload is the user of this test.
func spireWorld(t *testing.T) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root's processes are told apart from those of other tests")
	}
	out, err := exec.Command("../spire/build.sh").Output()
	if err != nil {
		t.Fatalf("spire/build.sh: %v", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	bin := lines[len(lines)-1]
	w := newWorld(t)
	for _, sub := range []string{"server", "agent", "api"} {
		if err := os.Mkdir(w.file(sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	port := freePort(t)
	w.write("server.conf", fmt.Appendf(nil, serverConf, w.dir, port))
	w.write("agent.conf", fmt.Appendf(nil, agentConf, w.dir, port))
	w.start("spire-server", exec.Command(filepath.Join(bin, "spire-server"), "run", "-config", w.file("server.conf")))
	ctl := func(args ...string) string {
		return w.await(filepath.Join(bin, "spire-server"), append(args, "-socketPath", w.file("server.sock"))...)
	}
	token := strings.TrimSpace(strings.TrimPrefix(ctl("token", "generate", "-spiffeID", "spiffe://acme.example/node"), "Token: "))
	ctl("entry", "create", "-parentID", "spiffe://acme.example/node", "-spiffeID", workload.String(), "-selector", "unix:uid:0")
	w.start("spire-agent", exec.Command(filepath.Join(bin, "spire-agent"), "run", "-config", w.file("agent.conf"), "-joinToken", token))
	w.socket = "unix://" + w.file("api/api.sock")
	w.await(filepath.Join(bin, "spire-agent"), "api", "fetch", "jwt", "-audience", issuerName, "-socketPath", w.file("api/api.sock"))
	w.serveIssuer()
	return w
}

// await runs a command until it succeeds.
func (w *world) await(program string, args ...string) string {
	w.t.Helper()
	for end := time.Now().Add(waitTime); ; time.Sleep(200 * time.Millisecond) {
		out, err := exec.Command(program, args...).CombinedOutput()
		if err == nil {
			return string(out)
		}
		if time.Now().After(end) {
			w.t.Fatalf("%s %s: %v: %s", filepath.Base(program), args[0], err, out)
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // of a TCP listener
}

// TestSVIDsOfARealSPIRE: what a real agent gives is what a real server takes.
func TestSVIDsOfARealSPIRE(t *testing.T) {
	w := spireWorld(t)
	for _, name := range []string{"token_exchange", "jwt_bearer", "mtls"} {
		w.sub(name, func(t *testing.T) {
			e := w.run(cases()[name])
			defer e.stop()
			if !w.active(e.bearer()) {
				t.Error("the issuer does not know the token")
			}
		})
	}
	w.sub("tampered", func(t *testing.T) { tampered(t, w) })
}
