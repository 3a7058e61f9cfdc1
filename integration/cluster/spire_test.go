// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package cluster

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/integration/internal/testbed"
)

const (
	dashboardID = "spiffe://acme.example/ns/qa/sa/dashboard"
	spireGroup  = "64536" // that may open the agent's admin socket
)

const spireServer = `server {
  bind_address = "127.0.0.1"
  bind_port = "8081"
  socket_path = "/run/spire-server/api.sock"
  trust_domain = "acme.example"
  data_dir = "%[1]s"
  log_level = "WARN"
  jwt_issuer = "https://oidc.acme.example"
}
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3"  connection_string = "%[1]s/db" } }
  KeyManager "memory" { plugin_data {} }
  NodeAttestor "join_token" { plugin_data {} }
}
`

// spireAgent attests pods by the kubelet, as in any cluster, and has the sockets where the
// examples look for them.
const spireAgent = `agent {
  data_dir = "%[1]s"
  log_level = "INFO"
  server_address = "127.0.0.1"
  server_port = "8081"
  socket_path = "/run/spire/agent/spire-agent.sock"
  admin_socket_path = "/run/spire/admin/admin.sock"
  authorized_delegates = ["spiffe://acme.example/egret"]
  insecure_bootstrap = true
  trust_domain = "acme.example"
}
plugins {
  KeyManager "memory" { plugin_data {} }
  NodeAttestor "join_token" { plugin_data {} }
  WorkloadAttestor "k8s" { plugin_data {
    kubelet_ca_path = "%[2]s/ca.pem"
    certificate_path = "%[2]s/spire-agent.pem"
    private_key_path = "%[2]s/spire-agent.key"
  } }
}
`

// startSPIRE starts a server and the node's agent, and returns the folder of programs.
func (c *cluster) startSPIRE() {
	c.t.Helper()
	bin := testbed.Built(c.t, "../spire/build.sh")
	c.run("sh", "-c", "mkdir -p /run/spire-server /run/spire/agent /run/spire/admin "+c.file("spire/server")+" "+c.file("spire/agent")+
		" && chgrp "+spireGroup+" /run/spire/admin && chmod 2750 /run/spire/admin")
	c.kubectl("create", "clusterrole", "spire-agent", "--verb=get", "--resource=nodes/proxy,nodes/pods")
	c.kubectl("create", "clusterrolebinding", "spire-agent", "--clusterrole=spire-agent", "--user=spire-agent")
	server := filepath.Join(bin, "spire-server")
	ask := func(args ...string) string {
		return c.run(append(append([]string{server}, args...), "-socketPath", "/run/spire-server/api.sock")...)
	}
	c.start("spire-server", server, "run", "-config", c.write("spire-server.conf", fmt.Sprintf(spireServer, c.file("spire/server"))))
	c.await("spire-server", func() bool {
		return c.try(Program{Args: []string{server, "healthcheck", "-socketPath", "/run/spire-server/api.sock"}}).Code == 0
	})
	token := strings.TrimSpace(strings.TrimPrefix(ask("token", "generate", "-spiffeID", "spiffe://acme.example/"+nodeName), "Token:"))
	for id, selectors := range entries() {
		args := []string{"entry", "create", "-parentID", "spiffe://acme.example/" + nodeName, "-spiffeID", id}
		for _, s := range selectors {
			args = append(args, "-selector", s)
		}
		ask(args...)
	}
	c.start("spire-agent", filepath.Join(bin, "spire-agent"), "run", "-joinToken", strings.Fields(token)[0],
		"-config", c.write("spire-agent.conf", fmt.Sprintf(spireAgent, c.file("spire/agent"), c.file("pki"))))
	c.await("spire-agent", func() bool {
		return c.try(Program{Args: []string{"test", "-S", "/run/spire/admin/admin.sock"}}).Code == 0
	})
	bundle, err := spiffebundle.Parse(spiffeid.RequireTrustDomainFromString("acme.example"), json.RawMessage(ask("bundle", "show", "-format", "spiffe")))
	c.must(err)
	c.bundle = bundle
}

// entries are those of the examples' READMEs: pods by their namespace and service account,
// egret's own by the container too.
func entries() map[string][]string {
	return map[string][]string{
		"spiffe://acme.example/egret": {"k8s:ns:egret", "k8s:sa:egret", "k8s:container-name:egret"},
		dashboardID:                   {"k8s:ns:qa", "k8s:sa:dashboard"},
		"spiffe://acme.example/ns/qa/sa/weekly-report": {"k8s:ns:qa", "k8s:sa:weekly-report"},
		"spiffe://acme.example/ns/reports/sa/monthly":  {"k8s:ns:reports", "k8s:sa:monthly"},
	}
}
