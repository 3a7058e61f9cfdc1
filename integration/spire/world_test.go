// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package spire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/identity/kernel"
	"github.com/egret-proxy/egret/identity/process"
	"github.com/egret-proxy/egret/identity/spire"
	"github.com/egret-proxy/egret/integration/internal/testbed"
)

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		obey()
		return
	}
	os.Exit(m.Run())
}

var (
	td    = spiffeid.RequireTrustDomainFromString("example.org")
	egret = spiffeid.RequireFromString("spiffe://example.org/egret")
	node  = spiffeid.RequireFromString("spiffe://example.org/node1")
	alice = spiffeid.RequireFromString("spiffe://example.org/alice")
	bob   = spiffeid.RequireFromString("spiffe://example.org/bob")
)

const (
	aliceUID = 47101
	bobUID   = 47102
	carolUID = 47103 // has no entry
)

// world is a SPIRE server and agent of one test.
type world struct {
	t      *testing.T
	bin    string
	dir    string
	server *exec.Cmd
	agent  *exec.Cmd
	token  string
}

// binaries builds SPIRE if it is not built yet, and returns the folder.
func binaries(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can run programs as other users, and open the agent's admin socket")
	}
	return testbed.Built(t, "./build.sh")
}

const serverConf = `
server {
  bind_address = "127.0.0.1"
  bind_port = "%[2]d"
  socket_path = "%[1]s/server.sock"
  trust_domain = "example.org"
  data_dir = "%[1]s/server"
  log_level = "WARN"
  ca_ttl = "1h"
  default_x509_svid_ttl = "10m"
  jwt_issuer = "https://oidc.example.org"
}
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3"  connection_string = "%[1]s/server/db" } }
  KeyManager "disk" { plugin_data { keys_path = "%[1]s/server/keys.json" } }
  NodeAttestor "join_token" { plugin_data {} }
}
`

const agentConf = `
agent {
  data_dir = "%[1]s/agent"
  log_level = "DEBUG"
  server_address = "127.0.0.1"
  server_port = "%[2]d"
  socket_path = "%[1]s/api/api.sock"
  admin_socket_path = "%[1]s/admin/admin.sock"
  insecure_bootstrap = true
  trust_domain = "example.org"
  authorized_delegates = ["spiffe://example.org/egret"]
  experimental {
    broker {
      socket_path = "%[1]s/broker/broker.sock"
      brokers = [ {
        id = "spiffe://example.org/egret"
        allowed_reference_types = [ { type_url = "type.googleapis.com/spiffe.broker.WorkloadPIDReference" } ]
      } ]
    }
  }
}
plugins {
  KeyManager "disk" { plugin_data { directory = "%[1]s/agent" } }
  NodeAttestor "join_token" { plugin_data {} }
  WorkloadAttestor "unix" { plugin_data { discover_workload_path = true  workload_size_limit = -1 } }
}
`

// newWorld starts a server and an agent. egret's own entry is by the path of this
// program: by unix:uid:0 alone every root process would have it.
func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldWith(t, func(conf string) string { return conf })
}

// newWorldWith has the agent's configuration edited before its first start.
func newWorldWith(t *testing.T, edit func(conf string) string) *world {
	t.Helper()
	w := &world{t: t, bin: binaries(t)}
	dir, err := os.MkdirTemp("", "egret-spire-") // socket paths are short
	if err != nil {
		t.Fatal(err)
	}
	w.dir = dir
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for _, sub := range []string{"server", "agent", "api", "admin", "broker"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	port := testbed.FreePort(t)
	w.write("server.conf", fmt.Sprintf(serverConf, dir, port))
	w.write("agent.conf", edit(fmt.Sprintf(agentConf, dir, port)))
	t.Cleanup(func() { w.stop(&w.agent); w.stop(&w.server); w.logs() })
	w.startServer()
	w.token = w.makeToken()
	w.startAgent()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w.entry(egret, "unix:uid:0", "unix:path:"+self)
	return w
}

func (w *world) write(name, content string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) start(name string, args ...string) *exec.Cmd {
	w.t.Helper()
	log, err := os.OpenFile(filepath.Join(w.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(w.bin, name), args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, w.dir
	// With this process, if it is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	return cmd
}

func (w *world) stop(cmd **exec.Cmd) {
	if *cmd == nil {
		return
	}
	_ = (*cmd).Process.Kill()
	_ = (*cmd).Wait()
	*cmd = nil
}

func (w *world) startServer() {
	w.t.Helper()
	w.server = w.start("spire-server", "run", "-config", filepath.Join(w.dir, "server.conf"))
	w.await("the server", func() bool { return w.ctl("healthcheck") == nil })
}

func (w *world) startAgent() {
	w.t.Helper()
	args := []string{"run", "-config", filepath.Join(w.dir, "agent.conf")}
	if w.token != "" {
		args = append(args, "-joinToken", w.token)
		w.token = ""
	}
	w.agent = w.start("spire-agent", args...)
	w.await("the agent", func() bool {
		return exec.Command(filepath.Join(w.bin, "spire-agent"), "healthcheck", "-socketPath", filepath.Join(w.dir, "api/api.sock")).Run() == nil
	})
}

func (w *world) await(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("not within 60 s: %s", what)
		}
	}
}

// ctl runs a command of spire-server.
func (w *world) ctl(args ...string) error {
	_, err := w.out(args...)
	return err
}

func (w *world) out(args ...string) ([]byte, error) {
	args = append(args, "-socketPath", filepath.Join(w.dir, "server.sock"))
	cmd := exec.Command(filepath.Join(w.bin, "spire-server"), args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("spire-server %s: %w: %s%s", strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return out, nil
}

func (w *world) makeToken() string {
	w.t.Helper()
	out, err := w.out("token", "generate", "-spiffeID", node.String(), "-output", "json")
	var m struct{ Value string }
	if err := errors.Join(err, json.Unmarshal(out, &m)); err != nil || m.Value == "" {
		w.t.Fatalf("token: %v: %s", err, out)
	}
	return m.Value
}

// entry registers an identity and returns the entry's ID.
func (w *world) entry(id spiffeid.ID, selectors ...string) string {
	return w.entryFor(0, id, selectors...)
}

func (w *world) entryFor(ttl int, id spiffeid.ID, selectors ...string) string {
	w.t.Helper()
	args := []string{"entry", "create", "-parentID", node.String(), "-spiffeID", id.String(), "-output", "json"}
	if ttl > 0 {
		args = append(args, "-x509SVIDTTL", fmt.Sprint(ttl))
	}
	for _, s := range selectors {
		args = append(args, "-selector", s)
	}
	out, err := w.out(args...)
	var m struct {
		Results []struct{ Entry struct{ ID string } }
	}
	if err := errors.Join(err, json.Unmarshal(out, &m)); err != nil || len(m.Results) != 1 {
		w.t.Fatalf("entry: %v: %s", err, out)
	}
	return m.Results[0].Entry.ID
}

func (w *world) remove(entry string) {
	w.t.Helper()
	if err := w.ctl("entry", "delete", "-entryID", entry); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) logs() {
	if !w.t.Failed() {
		return
	}
	for _, name := range []string{"spire-server.log", "spire-agent.log"} {
		b, _ := os.ReadFile(filepath.Join(w.dir, name))
		w.t.Logf("%s:\n%s", name, b[max(0, len(b)-6000):])
	}
}

// source follows the agent's Workload API as egret.
func (w *world) source() *identity.Source {
	w.t.Helper()
	s, err := identity.NewSource(identity.SourceOptions{
		Address: "unix://" + w.dir + "/api/api.sock", TrustDomains: []spiffeid.TrustDomain{td}, ID: egret,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	w.t.Cleanup(func() { cancel(); <-done })
	<-s.Ready()
	w.await("egret's own SVID", func() bool { _, err := s.SVID(); return err == nil })
	return s
}

func (w *world) delegated() *spire.Delegated {
	w.t.Helper()
	d, err := spire.NewDelegated("unix://" + w.dir + "/admin/admin.sock")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = d.Close() })
	w.await("authorised", func() bool { return d.Authorized(w.t.Context()) == nil })
	return d
}

func (w *world) broker(s *identity.Source) *spire.Broker {
	w.t.Helper()
	return w.brokerBy(s, spire.BrokerOptions{})
}

func (w *world) brokerBy(s *identity.Source, o spire.BrokerOptions) *spire.Broker {
	w.t.Helper()
	o.Address, o.SVIDs, o.Bundles, o.Agent = "unix://"+w.dir+"/broker/broker.sock", s, s, spire.AgentOf(td)
	b, err := spire.NewBroker(o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = b.Close() })
	return b
}

// attestors are both ways to ask one agent.
func (w *world) attestors() map[string]process.Attestor {
	return map[string]process.Attestor{"delegated": w.delegated(), "broker": w.broker(w.source())}
}

func resolver(t *testing.T, a process.Attestor, accept func(spiffeid.ID) bool) *process.Resolver {
	t.Helper()
	c, err := kernel.FindCgroups()
	if err != nil {
		t.Skip(err)
	}
	r, err := process.New(process.Options{Attestor: a, TrustDomains: []spiffeid.TrustDomain{td}, Cgroups: c, Hybrid: true, Accept: accept})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}
