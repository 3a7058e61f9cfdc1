// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package vault

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
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

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/vault"
	"github.com/egret-proxy/egret/identity/embedded"
	"github.com/egret-proxy/egret/integration/internal/testbed"
	"github.com/egret-proxy/egret/internal/secret"
)

const (
	host     = "vault.acme.example"
	address  = "https://" + host + ":8200"
	root     = "root-of-the-test"
	waitTime = 30 * time.Second
)

var (
	alice = spiffeid.RequireFromString("spiffe://acme.example/alice")
	bob   = spiffeid.RequireFromString("spiffe://acme.example/bob")
)

// world is a Vault in memory, which trusts the SVIDs of an embedded issuer.
type world struct {
	t      *testing.T
	dir    string
	addr   string // that Vault listens on
	unseal string
	roots  *x509.CertPool
	admin  *http.Client
	issuer *embedded.Issuer
	ca     *ca // of X.509-SVIDs
}

func newWorld(t *testing.T) *world {
	t.Helper()
	bin := testbed.Built(t, "../build/vault.sh")
	dir, err := os.MkdirTemp("", "egret-vault-") // PostgreSQL's user must get into it, and socket paths are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir, addr: fmt.Sprintf("127.0.0.1:%d", testbed.FreePort(t)), roots: x509.NewCertPool()}
	w.startVault(filepath.Join(bin, "vault"))
	w.trust()
	return w
}

func (w *world) file(name string) string { return filepath.Join(w.dir, name) }

// run starts a program that ends with the test.
func (w *world) run(cmd *exec.Cmd) {
	w.t.Helper()
	log, err := os.Create(w.file(filepath.Base(cmd.Path) + ".log"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, w.dir
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT) // a fast shutdown of PostgreSQL, too
		late := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		late.Stop()
		if text, _ := os.ReadFile(log.Name()); w.t.Failed() {
			w.t.Logf("%s:\n%s", log.Name(), text[max(0, len(text)-4000):])
		}
	})
}

func (w *world) startVault(bin string) {
	w.t.Helper()
	cmd := exec.Command(bin, "server", "-dev", "-dev-tls", "-dev-tls-cert-dir="+w.dir, "-dev-tls-san="+host,
		"-dev-listen-address="+w.addr, "-dev-root-token-id="+root, "-dev-no-store-token")
	cmd.Env = []string{"HOME=" + w.dir, "PATH=" + os.Getenv("PATH")}
	w.run(cmd)
	w.await("Vault's CA", func() bool {
		text, err := os.ReadFile(w.file("vault-ca.pem"))
		return err == nil && w.roots.AppendCertsFromPEM(text)
	})
	w.admin = &http.Client{Transport: &http.Transport{
		DialContext: w.dial, TLSClientConfig: &tls.Config{RootCAs: w.roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true,
	}}
	w.await("Vault", func() bool {
		resp, err := w.admin.Get(address + "/v1/sys/health")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	w.await("the key that unseals it", func() bool {
		text, _ := os.ReadFile(w.file("vault.log"))
		_, rest, _ := strings.Cut(string(text), "Unseal Key: ")
		var whole bool
		w.unseal, _, whole = strings.Cut(rest, "\n")
		return whole
	})
}

func (w *world) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, w.addr)
}

func (w *world) await(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(waitTime); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("not within %s: %s", waitTime, what)
		}
	}
}

type members = map[string]any

// call is an administrator's, and returns status and answer.
func (w *world) call(method, path string, in members, header ...string) (int, members) {
	w.t.Helper()
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			w.t.Fatal(err)
		}
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(w.t.Context(), method, address+"/v1/"+path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("X-Vault-Token", root)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := w.admin.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	out := members{}
	_ = json.NewDecoder(resp.Body).Decode(&out)
	return resp.StatusCode, out
}

// must is call for what has to succeed.
func (w *world) must(method, path string, in members, header ...string) members {
	w.t.Helper()
	status, out := w.call(method, path, in, header...)
	if status > 299 {
		w.t.Fatalf("%s %s: %d %v", method, path, status, out)
	}
	return out
}

// trust sets up both auth methods for the issuer's SVIDs, with a role of alice in each.
func (w *world) trust() {
	w.t.Helper()
	issuer, err := embedded.New(embedded.Options{TrustDomain: alice.TrustDomain()})
	if err != nil {
		w.t.Fatal(err)
	}
	w.issuer = issuer
	keys, err := issuer.Bundles().GetJWTBundleForTrustDomain(alice.TrustDomain())
	if err != nil {
		w.t.Fatal(err)
	}
	var pubkeys []string
	for _, key := range keys.JWTAuthorities() {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			w.t.Fatal(err)
		}
		pubkeys = append(pubkeys, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	}
	w.must("POST", "sys/auth/jwt", members{"type": "jwt"})
	w.must("POST", "auth/jwt/config", members{"jwt_validation_pubkeys": pubkeys, "jwt_supported_algs": []string{"ES256"}})
	w.jwtRole("alice", nil)
	w.ca = newCA(w.t)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.ca.cert.Raw})
	w.must("POST", "sys/auth/cert", members{"type": "cert"})
	w.must("POST", "auth/cert/certs/alice", members{"certificate": string(text), "allowed_uri_sans": alice.String(), "token_policies": "alice"})
	w.policy(`path "secret/data/qa/*" { capabilities = ["read"] }`)
}

// jwtRole binds a role to alice, with further settings.
func (w *world) jwtRole(name string, more members) {
	w.t.Helper()
	in := members{
		"role_type": "jwt", "user_claim": "sub", "bound_audiences": address, "bound_subject": alice.String(),
		"token_policies": "alice", "clock_skew_leeway": 1, "expiration_leeway": 1, "not_before_leeway": 1,
	}
	for k, v := range more {
		in[k] = v
	}
	w.must("POST", "auth/jwt/role/"+name, in)
}

func (w *world) policy(text string) {
	w.t.Helper()
	w.must("PUT", "sys/policies/acl/alice", members{"policy": text})
}

// subject is a workload of the issuer.
type subject struct {
	w      *world
	id     spiffeid.ID
	tamper bool

	nameless bool // as the embedded issuer's
}

func (s subject) JWTSVID(_ context.Context, audience string) (secret.Secret, time.Time, error) {
	token, err := s.w.issuer.MintJWT(s.id, audience, time.Minute)
	if text := token.Reveal(); s.tamper && err == nil { // one letter of the signature
		i := strings.LastIndexByte(text, '.') + 10
		swap := "A"
		if text[i] == 'A' {
			swap = "B"
		}
		token = secret.New(text[:i] + swap + text[i+1:])
	}
	return token, time.Now().Add(time.Minute), err
}

// X509SVID has a common name, as SPIRE gives to entries with a DNS name: Vault's method
// cert needs one.
func (s subject) X509SVID(context.Context) (tls.Certificate, error) {
	if s.nameless {
		svid, err := s.w.issuer.MintX509(s.id, time.Minute)
		if err != nil {
			return tls.Certificate{}, err
		}
		return tls.Certificate{Certificate: [][]byte{svid.Certificates[0].Raw}, PrivateKey: svid.PrivateKey}, nil
	}
	return s.w.ca.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "app"}, URIs: []*url.URL{s.id.URL()}})
}

// ca signs X.509-SVIDs that have a common name.
type ca struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newCA(t *testing.T) *ca {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &ca{key: key}
	made, err := a.issue(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, URIs: []*url.URL{alice.TrustDomain().ID().URL()}})
	if err != nil {
		t.Fatal(err)
	}
	a.cert, err = x509.ParseCertificate(made.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *ca) issue(c *x509.Certificate) (tls.Certificate, error) {
	key, parent := a.key, c
	if a.cert != nil {
		parent = a.cert
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return tls.Certificate{}, err
		}
	}
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	if !c.IsCA {
		c.KeyUsage, c.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), a.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

func (w *world) alice() subject { return subject{w: w, id: alice} }

// provider makes one that logs in by JWT-SVID as the role alice.
func (w *world) provider(change func(*vault.Config)) *vault.Provider {
	w.t.Helper()
	c := vault.Config{Address: address, Login: vault.Login{Method: vault.JWT, Role: "alice"}, Keys: map[string]string{"token": "api_key"}}
	c.Issuer.Roots, c.Issuer.Dial = w.roots, w.dial
	change(&c)
	p, err := vault.New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = p.Close() })
	return p
}

func key(id spiffeid.ID) credential.Key {
	return credential.Key{ID: id, Provider: "vault", Generation: "1"}
}

func (w *world) get(p *vault.Provider) credential.Token {
	w.t.Helper()
	tok, err := p.Fetch(w.t.Context(), key(alice), w.alice())
	if err != nil {
		w.t.Fatal(err)
	}
	return tok
}

func (w *world) wantError(p *vault.Provider, s credential.Subject, k credential.Kind) {
	w.t.Helper()
	_, err := p.Fetch(w.t.Context(), key(alice), s)
	if e, ok := err.(*credential.Error); !ok || e.Kind != k {
		w.t.Errorf("err = %v, want %s", err, k)
	}
}

func value(tok credential.Token) string { return tok.Values["token"].Reveal() }

// tokens is how many client tokens there are besides the root's.
func (w *world) tokens() int {
	w.t.Helper()
	out := w.must("LIST", "auth/token/accessors", nil)
	return len(out["data"].(members)["keys"].([]any)) - 1
}
