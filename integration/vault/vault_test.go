// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package vault

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/vault"
	"github.com/egret-proxy/egret/integration/internal/testbed"
	"github.com/egret-proxy/egret/internal/secret"
)

func (w *world) kv(change func(*vault.Config)) *vault.Provider {
	w.t.Helper()
	return w.provider(func(c *vault.Config) {
		c.KV = &vault.KV{Path: "qa/app"}
		if change != nil {
			change(c)
		}
	})
}

func (w *world) put(text string) {
	w.t.Helper()
	w.must("POST", "secret/data/qa/app", members{"data": members{"api_key": text, "port": 8443}})
}

func TestKVWithTheCallersSVID(t *testing.T) {
	w := newWorld(t)
	w.put("first")
	for _, method := range []string{vault.JWT, vault.Cert} {
		p := w.kv(func(c *vault.Config) { c.Login.Method = method })
		if tok := w.get(p); value(tok) != "first" || tok.Lifetime != 0 {
			t.Errorf("%s: %q, %s", method, value(tok), tok.Lifetime)
		}
		w.wantError(p, subject{w: w, id: bob}, credential.Refused)
	}
	w.wantError(w.kv(func(c *vault.Config) { c.Login.Method = vault.Cert }), subject{w: w, id: alice, nameless: true}, credential.Refused)
	p := w.kv(nil)
	w.wantError(p, subject{w: w, id: alice, tamper: true}, credential.Refused)
	w.wantError(w.kv(func(c *vault.Config) { c.Login.Audience = "https://other.example" }), w.alice(), credential.Refused)
	w.wantError(w.kv(func(c *vault.Config) { c.Login.Role = "gone" }), w.alice(), credential.Refused)
	w.wantError(w.kv(func(c *vault.Config) { c.Login.Mount = "gone" }), w.alice(), credential.Refused)
	w.wantError(w.kv(func(c *vault.Config) { c.KV.Path = "qa/gone" }), w.alice(), credential.NotMinted)
	w.wantError(w.kv(func(c *vault.Config) { c.KV.Path = "other/app" }), w.alice(), credential.Refused)
	w.wantError(w.kv(func(c *vault.Config) { c.Keys = map[string]string{"token": "gone"} }), w.alice(), credential.NotMinted)
	if port := w.get(w.kv(func(c *vault.Config) { c.Keys = map[string]string{"token": "port"} })); value(port) != "8443" {
		t.Errorf("a number: %q", value(port))
	}
	if n := w.tokens(); n != 0 {
		t.Errorf("%d client tokens are left", n)
	}
}

func TestRotationDeletionAndPolicy(t *testing.T) {
	w := newWorld(t)
	w.put("first")
	w.put("second")
	p := w.kv(nil)
	if got := value(w.get(p)); got != "second" {
		t.Errorf("newest: %q", got)
	}
	if got := value(w.get(w.kv(func(c *vault.Config) { c.KV.Version = 1 }))); got != "first" {
		t.Errorf("version 1: %q", got)
	}
	w.policy(`path "secret/data/other/*" { capabilities = ["read"] }`)
	w.wantError(p, w.alice(), credential.Refused)
	w.policy(`path "secret/data/qa/*" { capabilities = ["read"] }`)
	w.get(p)
	w.must("DELETE", "secret/data/qa/app", nil)
	w.wantError(p, w.alice(), credential.NotMinted)
	w.must("PUT", "sys/seal", nil)
	w.wantError(p, w.alice(), credential.Unreachable)
	w.must("PUT", "sys/unseal", members{"key": w.unseal})
	w.await("an unsealed Vault", func() bool { status, _ := w.call("GET", "sys/health", nil); return status == 200 })
	w.put("third")
	if got := value(w.get(p)); got != "third" {
		t.Errorf("after the seal: %q", got)
	}
}

const pgBin = "/usr/lib/postgresql/15/bin/"

// postgres starts a PostgreSQL and has Vault make users of it.
func (w *world) postgres() (port string) {
	w.t.Helper()
	u, err := user.Lookup("postgres")
	if _, gone := os.Stat(pgBin + "initdb"); err != nil || gone != nil {
		w.t.Skip("needs Debian's postgresql")
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	data, as := w.file("pg"), &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	w.do(os.Mkdir(data, 0o700), os.WriteFile(w.file("pw"), []byte("vaults-own"), 0o644), os.Chown(data, uid, gid))
	init := exec.Command(pgBin+"initdb", "-D", data, "-U", "vault", "--pwfile="+w.file("pw"), "-A", "scram-sha-256", "-N")
	init.SysProcAttr = as
	if out, err := init.CombinedOutput(); err != nil {
		w.t.Fatalf("initdb: %v: %s", err, out)
	}
	port = strconv.Itoa(testbed.FreePort(w.t))
	server := exec.Command(pgBin+"postgres", "-D", data, "-p", port, "-h", "127.0.0.1", "-k", data, "-F")
	server.SysProcAttr = &syscall.SysProcAttr{Credential: as.Credential}
	w.run(server)
	w.await("PostgreSQL", func() bool { return exec.Command(pgBin+"pg_isready", "-h", "127.0.0.1", "-p", port).Run() == nil })
	w.must("POST", "sys/mounts/database", members{"type": "database"})
	w.must("POST", "database/config/pg", members{
		"plugin_name": "postgresql-database-plugin", "allowed_roles": "*", "username": "vault", "password": "vaults-own",
		"connection_url": "postgresql://{{username}}:{{password}}@127.0.0.1:" + port + "/postgres?sslmode=disable",
	})
	return port
}

func (w *world) do(errs ...error) {
	w.t.Helper()
	for _, err := range errs {
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// reader is a role of the engine with these lifetimes, and a provider of its users.
func (w *world) reader(ttl, most string) *vault.Provider {
	w.t.Helper()
	w.must("POST", "database/roles/reader", members{
		"db_name": "pg", "default_ttl": ttl, "max_ttl": most,
		"creation_statements": []string{`CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';`},
	})
	w.policy(`path "database/creds/reader" { capabilities = ["read"] }`)
	return w.provider(func(c *vault.Config) {
		c.Dynamic, c.Keys = &vault.Dynamic{Path: "database/creds/reader"}, map[string]string{"user": "username", "token": "password"}
	})
}

// admits reports whether the database lets a user in.
func admits(port string, tok credential.Token) bool {
	cmd := exec.Command(pgBin+"psql", "-h", "127.0.0.1", "-p", port, "-U", tok.Values["user"].Reveal(), "-d", "postgres", "-c", "select 1")
	cmd.Env = []string{"PGPASSWORD=" + value(tok), "HOME=/nonexistent"}
	return cmd.Run() == nil
}

// Real leases of a real database: renewed, read again at their maximum, and revoked.
func TestLeasesOfADatabase(t *testing.T) {
	w := newWorld(t)
	port := w.postgres()
	p := w.reader("8s", "14s")
	first := w.get(p)
	if first.Lifetime < 6*time.Second || first.Lifetime > 9*time.Second || !admits(port, first) {
		t.Fatalf("lifetime %s, or the database does not admit it", first.Lifetime)
	}
	time.Sleep(5500 * time.Millisecond)
	second := w.get(p)
	if value(second) != value(first) || second.Lifetime < 6*time.Second {
		t.Errorf("not renewed: lifetime %s", second.Lifetime)
	}
	time.Sleep(5500 * time.Millisecond) // 8 s more would be above the maximum
	third := w.get(p)
	if value(third) == value(first) || third.Lifetime < 6*time.Second || !admits(port, third) {
		t.Errorf("not read again: lifetime %s", third.Lifetime)
	}
	w.await("the end of the first", func() bool { return !admits(port, first) })
	for range 2 {
		if err := third.Revoke(t.Context()); err != nil {
			t.Error(err)
		}
	}
	w.await("the end of what was revoked", func() bool { return !admits(port, third) && w.tokens() == 0 })
}

// An administrator's revocation is met by another secret at the next renewal, and what
// nobody renews ends with its client token.
func TestALeaseThatIsRevokedInVault(t *testing.T) {
	w := newWorld(t)
	port := w.postgres()
	p := w.reader("6s", "1h")
	first := w.get(p)
	w.must("PUT", "sys/leases/revoke-prefix/database/creds/reader", nil)
	time.Sleep(4200 * time.Millisecond)
	second := w.get(p)
	if value(second) == value(first) || !admits(port, second) || admits(port, first) {
		t.Error("what was revoked is given again")
	}
	w.await("the end of what nobody uses", func() bool { return !admits(port, second) && w.tokens() == 0 })
}

func TestABatchTokensLease(t *testing.T) {
	w := newWorld(t)
	port := w.postgres()
	p := w.reader("1m", "1h")
	w.jwtRole("alice", members{"token_type": "batch", "token_ttl": "10m"})
	w.policy(`path "database/creds/reader" { capabilities = ["read"] }
path "sys/leases/revoke" { capabilities = ["update"] }`)
	tok := w.get(p)
	if !admits(port, tok) {
		t.Fatal("not admitted")
	}
	if err := tok.Revoke(t.Context()); err != nil || admits(port, tok) {
		t.Errorf("%v, or it is still admitted", err)
	}
}

func TestTheClientTokenItself(t *testing.T) {
	w := newWorld(t)
	w.jwtRole("alice", members{"token_ttl": "6s", "token_max_ttl": "11s"})
	p := w.provider(func(c *vault.Config) { c.ClientToken, c.Keys = true, nil })
	first := w.get(p)
	time.Sleep(4200 * time.Millisecond)
	if second := w.get(p); value(second) != value(first) || second.Lifetime < 5*time.Second {
		t.Errorf("not renewed: %s", second.Lifetime)
	}
	time.Sleep(4200 * time.Millisecond) // the maximum is 11 s
	third := w.get(p)
	if value(third) == value(first) {
		t.Error("not replaced at its maximum")
	}
	if status, _ := w.call("GET", "auth/token/lookup-self", nil, "X-Vault-Token", value(third)); status != 200 {
		t.Errorf("status %d", status)
	}
	if err := third.Revoke(t.Context()); err != nil {
		t.Error(err)
	}
	if status, _ := w.call("GET", "auth/token/lookup-self", nil, "X-Vault-Token", value(third)); status != 403 {
		t.Errorf("after the revocation: status %d", status)
	}
	w.jwtRole("alice", members{"token_num_uses": 3})
	w.wantError(w.provider(func(c *vault.Config) { c.ClientToken, c.Keys = true, nil }), w.alice(), credential.NotMinted)
}

// A certificate of the engine pki has a lease that cannot be renewed, and comes by POST.
func TestParameters(t *testing.T) {
	w := newWorld(t)
	w.must("POST", "sys/mounts/pki", members{"type": "pki"})
	w.must("POST", "pki/root/generate/internal", members{"common_name": "test", "ttl": "1h"})
	w.must("POST", "pki/roles/web", members{"allow_any_name": true, "generate_lease": true, "max_ttl": "30m"})
	w.policy(`path "pki/issue/web" { capabilities = ["update"] }`)
	p := w.provider(func(c *vault.Config) {
		c.Dynamic = &vault.Dynamic{Path: "pki/issue/web", Parameters: map[string]string{"common_name": "a.example", "ttl": "10m"}}
		c.Keys = map[string]string{"token": "serial_number", "certificate": "certificate"}
	})
	tok := w.get(p)
	if tok.Lifetime < 9*time.Minute || tok.Lifetime > 11*time.Minute || !strings.Contains(tok.Values["certificate"].Reveal(), "BEGIN") {
		t.Errorf("lifetime %s", tok.Lifetime)
	}
	if err := tok.Revoke(t.Context()); err != nil {
		t.Error(err)
	}
}

func (w *world) wrap(path string, in members) string {
	w.t.Helper()
	method := "GET"
	if in != nil {
		method = "POST"
	}
	out := w.must(method, path, in, "X-Vault-Wrap-TTL", "1m")
	return out["wrap_info"].(members)["token"].(string)
}

func TestUnwrap(t *testing.T) {
	w := newWorld(t)
	w.put("wrapped")
	var log bytes.Buffer
	token := w.wrap("secret/data/qa/app", nil)
	opening := func() *vault.Provider {
		return w.provider(func(c *vault.Config) {
			c.Login = vault.Login{}
			c.Issuer.Logger = slog.New(slog.NewTextHandler(&log, nil))
			c.Unwrap = &vault.Unwrap{
				Token:        func() (secret.Secret, error) { return secret.New(token), nil },
				CreationPath: "secret/data/qa/app", State: w.file("state.json"),
			}
		})
	}
	p := opening()
	for _, p := range []*vault.Provider{p, p, opening()} { // the last: after a restart
		if got := value(w.get(p)); got != "wrapped" {
			t.Fatalf("%q", got)
		}
	}
	if log.Len() > 0 {
		t.Errorf("log: %s", &log)
	}
	for name, other := range map[string]string{
		"opened by somebody": func() string {
			x := w.wrap("secret/data/qa/app", nil)
			w.must("POST", "sys/wrapping/unwrap", nil, "X-Vault-Token", x)
			return x
		}(),
		"made elsewhere": w.wrap("sys/wrapping/wrap", members{"data": members{"api_key": "evil"}, "metadata": members{}}),
		"none at all":    "hvs.nonsense",
	} {
		log.Reset()
		token = other
		if w.wantError(p, nil, credential.Refused); !strings.Contains(log.String(), "somebody else") {
			t.Errorf("%s: no alarm: %s", name, fmt.Sprint(log.String()))
		}
	}
}
