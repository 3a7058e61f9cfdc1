// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package kube

import (
	"bytes"
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
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/egret-proxy/egret/credential/kubernetes"
	"github.com/egret-proxy/egret/integration/internal/testbed"
)

// world is one API server with its etcd.
type world struct {
	t      *testing.T
	bin    string
	dir    string
	port   int
	etcd   *exec.Cmd
	server *exec.Cmd
	http   *http.Client
	roots  *x509.CertPool
	args   []string // of the server
}

// admin is the token of somebody who may do everything.
const admin = "an-admin-token"

// audience of the API server's own tokens.
const ownAudience = "https://kubernetes.default.svc"

func newWorld(t *testing.T) *world {
	t.Helper()
	bin := testbed.Built(t, "../build/kube.sh")
	if _, err := exec.LookPath("etcd"); err != nil {
		t.Skip("etcd is not here: apt-get install etcd-server")
	}
	w := &world{t: t, bin: bin, port: testbed.FreePort(t)}
	var err error
	if w.dir, err = os.MkdirTemp("", "egret-kube-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(w.dir) })
	w.certificates()
	w.write("tokens.csv", admin+`,admin,admin,"system:masters"`+"\n")
	t.Cleanup(func() { w.stop(&w.server); w.stop(&w.etcd); w.logs() })
	client := w.startEtcd()
	w.args = []string{
		"--etcd-servers=" + client, "--endpoint-reconciler-type=none", "--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", w.port),
		"--tls-cert-file=" + w.file("server.pem"), "--tls-private-key-file=" + w.file("server.key"), "--cert-dir=" + w.dir,
		"--token-auth-file=" + w.file("tokens.csv"), "--authorization-mode=RBAC", "--anonymous-auth=false",
		"--service-account-issuer=" + ownAudience + ".cluster.local", "--api-audiences=" + ownAudience,
		"--service-account-key-file=" + w.file("accounts.pub"), "--service-account-signing-key-file=" + w.file("accounts.key"),
		"--service-cluster-ip-range=10.96.0.0/24", "--profiling=false", "--v=0",
	}
	w.startServer()
	return w
}

func (w *world) file(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name, text string) string {
	w.t.Helper()
	if err := os.WriteFile(w.file(name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return w.file(name)
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// certificates makes a CA, the server's certificate by it, and the key that signs tokens.
func (w *world) certificates() {
	w.t.Helper()
	caKey, caDER := w.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "cluster CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	ca, err := x509.ParseCertificate(caDER)
	w.must(err)
	key, der := w.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "kube-apiserver"}, DNSNames: []string{"kubernetes.default.svc"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca, caKey)
	accounts, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.must(err)
	public, err := x509.MarshalPKIXPublicKey(&accounts.PublicKey)
	w.must(err)
	for name, b := range map[string][]byte{
		"ca.pem": block("CERTIFICATE", caDER), "server.pem": block("CERTIFICATE", der), "server.key": w.key(key),
		"accounts.key": w.key(accounts), "accounts.pub": block("PUBLIC KEY", public),
	} {
		w.write(name, string(b))
	}
	w.roots = x509.NewCertPool()
	w.roots.AddCert(ca)
	w.http = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.roots}}}
	w.t.Cleanup(w.http.CloseIdleConnections)
}

func (w *world) sign(c, parent *x509.Certificate, by *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte) {
	w.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.must(err)
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Minute), time.Now().Add(24*time.Hour)
	if parent == nil {
		parent, by = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
	w.must(err)
	return key, der
}

func (w *world) key(k *ecdsa.PrivateKey) []byte {
	w.t.Helper()
	der, err := x509.MarshalECPrivateKey(k)
	w.must(err)
	return block("EC PRIVATE KEY", der)
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func (w *world) start(program, name string, args ...string) *exec.Cmd {
	w.t.Helper()
	log, err := os.OpenFile(w.file(name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	w.must(err)
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir, cmd.Env = log, log, w.dir, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // with this process, if it is killed
	w.must(cmd.Start())
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

func (w *world) startEtcd() (client string) {
	w.t.Helper()
	client, peer := fmt.Sprintf("http://127.0.0.1:%d", testbed.FreePort(w.t)), fmt.Sprintf("http://127.0.0.1:%d", testbed.FreePort(w.t))
	w.etcd = w.start("etcd", "etcd", "--data-dir="+w.file("etcd"), "--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer, "--unsafe-no-fsync")
	w.await("etcd", func() bool {
		resp, err := http.Get(client + "/health") //nolint:noctx // loopback
		if err == nil {
			_ = resp.Body.Close()
		}
		return err == nil && resp.StatusCode == http.StatusOK
	})
	return client
}

func (w *world) startServer() {
	w.t.Helper()
	begun := time.Now()
	w.server = w.start(filepath.Join(w.bin, "kube-apiserver"), "kube-apiserver", w.args...)
	w.await("kube-apiserver", func() bool { code, _ := w.try(admin, http.MethodGet, "/readyz", nil); return code == http.StatusOK })
	w.t.Logf("kube-apiserver is ready after %s", time.Since(begun).Round(time.Millisecond))
}

func (w *world) await(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(90 * time.Second); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("not within 90 s: %s", what)
		}
	}
}

func (w *world) logs() {
	if !w.t.Failed() {
		return
	}
	for _, name := range []string{"etcd.log", "kube-apiserver.log"} {
		b, _ := os.ReadFile(w.file(name))
		w.t.Logf("%s:\n%s", name, b[max(0, len(b)-4000):])
	}
}

func (w *world) url() string { return fmt.Sprintf("https://127.0.0.1:%d", w.port) }

// object is JSON in the making.
type object = map[string]any

// try asks the server as whoever the token is of. The status is 0 where it cannot be asked.
func (w *world) try(token, method, path string, body any) (int, object) {
	w.t.Helper()
	b, err := json.Marshal(body)
	w.must(err)
	req, err := http.NewRequest(method, w.url()+path, bytes.NewReader(b)) //nolint:noctx // the client has a timeout
	w.must(err)
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.http.Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil
	}
	var o object
	_ = json.Unmarshal(text, &o)
	return resp.StatusCode, o
}

// do is try as admin, and must succeed.
func (w *world) do(method, path string, body any) object {
	w.t.Helper()
	code, o := w.try(admin, method, path, body)
	if code < 200 || code > 299 {
		w.t.Fatalf("%s %s: %d %v", method, path, code, o["message"])
	}
	return o
}

// named is an object with a name.
func named(apiVersion, kind, name string, more object) object {
	o := object{"apiVersion": apiVersion, "kind": kind, "metadata": object{"name": name}}
	for k, v := range more {
		o[k] = v
	}
	return o
}

// namespace makes one with a service account.
func (w *world) namespace(name string, accounts ...string) {
	w.t.Helper()
	w.do(http.MethodPost, "/api/v1/namespaces", named("v1", "Namespace", name, nil))
	for _, a := range accounts {
		w.account(name, a)
	}
}

func (w *world) account(namespace, name string) {
	w.t.Helper()
	w.do(http.MethodPost, "/api/v1/namespaces/"+namespace+"/serviceaccounts", named("v1", "ServiceAccount", name, nil))
}

// pod makes one that no node will ever run, and returns its UID.
func (w *world) pod(namespace, name, account string) string {
	w.t.Helper()
	o := w.do(http.MethodPost, "/api/v1/namespaces/"+namespace+"/pods", named("v1", "Pod", name, object{"spec": object{
		"serviceAccountName": account, "nodeName": "node-1", "automountServiceAccountToken": false,
		"containers": []any{object{"name": "c", "image": "none"}},
	}}))
	return o["metadata"].(object)["uid"].(string)
}

func (w *world) remove(path string) {
	w.t.Helper()
	w.do(http.MethodDelete, path, object{"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0})
}

// token mints one as the kubelet does for a pod with a projected volume; "" binds it to no pod.
func (w *world) token(namespace, account, pod, uid, audience string) string {
	w.t.Helper()
	spec := object{"audiences": []string{audience}, "expirationSeconds": 3600}
	if pod != "" {
		spec["boundObjectRef"] = object{"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}
	}
	o := w.do(http.MethodPost, "/api/v1/namespaces/"+namespace+"/serviceaccounts/"+account+"/token",
		object{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec})
	return o["status"].(object)["token"].(string)
}

// allow gives a service account rules in a namespace.
func (w *world) allow(namespace, role, subject string, rules ...object) {
	w.t.Helper()
	at := "/apis/rbac.authorization.k8s.io/v1/namespaces/" + namespace
	account := strings.Split(subject, "/")
	w.do(http.MethodPost, at+"/roles", named("rbac.authorization.k8s.io/v1", "Role", role, object{"rules": rules}))
	w.do(http.MethodPost, at+"/rolebindings", named("rbac.authorization.k8s.io/v1", "RoleBinding", role, object{
		"roleRef":  object{"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
		"subjects": []any{object{"kind": "ServiceAccount", "namespace": account[0], "name": account[1]}},
	}))
}

// secret makes or changes one.
func (w *world) secret(namespace, name string, data map[string]string) {
	w.t.Helper()
	at, o := "/api/v1/namespaces/"+namespace+"/secrets", named("v1", "Secret", name, object{"stringData": data})
	if code, _ := w.try(admin, http.MethodPut, at+"/"+name, o); code == http.StatusNotFound {
		w.do(http.MethodPost, at, o)
	}
}

// cluster is the server as egret's service account reaches it.
func (w *world) cluster(name, token string) kubernetes.Cluster {
	w.t.Helper()
	return kubernetes.Cluster{Server: w.url(), RootsFile: w.file("ca.pem"), TokenFile: w.write("token-"+name, token+"\n")}
}
