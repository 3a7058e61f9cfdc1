// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package vault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/vault"
	"github.com/egret-proxy/egret/internal/secret"
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

// spire is a SPIRE server and agent, to which every program of root is one workload, with
// a DNS name.
type spire struct {
	w   *world
	bin string
	dir string
}

func (w *world) spire() *spire {
	w.t.Helper()
	out, err := exec.Command("../spire/build.sh").Output()
	if err != nil {
		w.t.Fatalf("build.sh: %v", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	s := &spire{w: w, bin: lines[len(lines)-1], dir: w.file("spire")}
	for _, sub := range []string{"", "server", "agent", "api"} {
		w.do(os.Mkdir(filepath.Join(s.dir, sub), 0o755))
	}
	port := freePort(w.t)
	w.do(os.WriteFile(s.dir+"/server.conf", fmt.Appendf(nil, spireServer, s.dir, port), 0o600),
		os.WriteFile(s.dir+"/agent.conf", fmt.Appendf(nil, spireAgent, s.dir, port), 0o600))
	w.run(exec.Command(s.bin+"/spire-server", "run", "-config", s.dir+"/server.conf"))
	w.await("SPIRE's server", func() bool { _, err := s.ctl("healthcheck"); return err == nil })
	var token struct{ Value string }
	s.read(&token, "token", "generate", "-spiffeID", "spiffe://acme.example/node", "-output", "json")
	w.run(exec.Command(s.bin+"/spire-agent", "run", "-config", s.dir+"/agent.conf", "-joinToken", token.Value))
	_, err = s.ctl("entry", "create", "-parentID", "spiffe://acme.example/node", "-spiffeID", alice.String(),
		"-selector", "unix:uid:0", "-dns", "alice.acme.example")
	w.do(err)
	w.await("the SVID", func() bool {
		ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
		defer cancel()
		_, err := s.X509SVID(ctx)
		return err == nil
	})
	return s
}

func (s *spire) ctl(args ...string) ([]byte, error) {
	return exec.Command(s.bin+"/spire-server", append(args, "-socketPath", s.dir+"/server.sock")...).Output()
}

func (s *spire) read(into any, args ...string) {
	s.w.t.Helper()
	out, err := s.ctl(args...)
	s.w.do(errors.Join(err, json.Unmarshal(out, into)))
}

// bundle is what Vault trusts: keys of JWT-SVIDs, and CA certificates, both PEM.
func (s *spire) bundle() (keys []string, cas string) {
	s.w.t.Helper()
	var set jose.JSONWebKeySet
	s.read(&set, "bundle", "show", "-format", "spiffe")
	for i := range set.Keys {
		switch k := &set.Keys[i]; k.Use {
		case "jwt-svid":
			der, err := x509.MarshalPKIXPublicKey(k.Key)
			s.w.do(err)
			keys = append(keys, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
		case "x509-svid":
			cas += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.Certificates[0].Raw}))
		}
	}
	return keys, cas
}

func (s *spire) address() workloadapi.ClientOption {
	return workloadapi.WithAddr("unix://" + s.dir + "/api/api.sock")
}

// JWTSVID implements credential.Subject, as X509SVID does.
func (s *spire) JWTSVID(ctx context.Context, audience string) (secret.Secret, time.Time, error) {
	svid, err := workloadapi.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience}, s.address())
	if err != nil {
		return secret.Secret{}, time.Time{}, err
	}
	return secret.New(svid.Marshal()), svid.Expiry, nil
}

func (s *spire) X509SVID(ctx context.Context) (tls.Certificate, error) {
	svid, err := workloadapi.FetchX509SVID(ctx, s.address())
	if err != nil {
		return tls.Certificate{}, err
	}
	cert := tls.Certificate{PrivateKey: svid.PrivateKey}
	for _, c := range svid.Certificates {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert, nil
}

// Vault takes what a real SPIRE gives, by both methods.
func TestSVIDsOfSPIRE(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the entry is for root")
	}
	w := newWorld(t)
	w.put("first")
	s := w.spire()
	p := w.kv(nil)
	w.wantError(p, s, credential.Refused) // Vault does not trust SPIRE yet
	keys, cas := s.bundle()
	w.must("POST", "auth/jwt/config", members{"jwt_validation_pubkeys": keys, "bound_issuer": "https://oidc.acme.example"})
	w.must("POST", "auth/cert/certs/alice", members{"certificate": cas, "allowed_uri_sans": alice.String(), "token_policies": "alice"})
	for _, p := range []*vault.Provider{p, w.kv(func(c *vault.Config) { c.Login.Method = vault.Cert })} {
		tok, err := p.Fetch(t.Context(), key(alice), s)
		if err != nil || value(tok) != "first" {
			t.Errorf("%v, %q", err, value(tok))
		}
	}
	w.jwtRole("alice", members{"bound_subject": bob.String()})
	w.wantError(p, s, credential.Refused)
}
