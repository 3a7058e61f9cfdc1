// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/egret-proxy/egret/certs"
)

func newRoot(t testing.TB, domain string) *x509.Certificate {
	t.Helper()
	ca, err := certs.NewRoot(certs.RootOptions{Domains: []string{domain}})
	if err != nil {
		t.Fatal(err)
	}
	return ca.Certificate()
}

func TestNewFolder(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	system, ours := newRoot(t, "system.example"), newRoot(t, "slack.com")
	f, err := NewFolder(Trust{System: certs.EncodeCertificates(system), Roots: []*x509.Certificate{ours}})
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(string(f)); info.Mode().Perm() != 0o700 {
		t.Errorf("the folder has mode %v", info.Mode())
	}
	for path, want := range map[string]int{f.Bundle(): 2, f.CA(): 1} {
		if list, err := certs.ReadCertificates(path); err != nil || len(list) != want {
			t.Errorf("%s: %d certificates, %v; want %d", path, len(list), err, want)
		}
	}
	store, err := os.ReadFile(f.TrustStore())
	if err != nil {
		t.Fatal(err)
	}
	if list, err := pkcs12.DecodeTrustStore(store, StorePassword); err != nil || len(list) != 2 {
		t.Errorf("trust.p12: %d certificates, %v", len(list), err)
	}
	ini, _ := os.ReadFile(f.PHPIni())
	if want := "curl.cainfo = \"" + f.Bundle() + "\"\nopenssl.cafile = \"" + f.Bundle() + "\"\n"; !strings.HasSuffix(string(ini), want) {
		t.Errorf("php.ini: %s", ini)
	}
	rc, _ := os.ReadFile(f.Wgetrc())
	if want := "\nca_certificate = " + f.Bundle() + "\n"; !strings.HasSuffix(string(rc), want) {
		t.Errorf("wgetrc: %s", rc)
	}
	if err := f.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(string(f)); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the folder is left behind")
	}
}

func TestNewFolderLeavesNothingOnError(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	if _, err := NewFolder(Trust{}); err == nil {
		t.Error("a folder without a CA")
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := WriteTrust("/nonexistent/x", Trust{Roots: []*x509.Certificate{newRoot(t, "a.com")}}); err == nil {
		t.Error("no folder and no error")
	}
}

func TestKeytoolReadsTrustStore(t *testing.T) {
	keytool, err := exec.LookPath("keytool")
	if err != nil {
		t.Skip("no keytool here")
	}
	f, err := WriteTrust(t.TempDir(), Trust{System: certs.EncodeCertificates(newRoot(t, "system.example")), Roots: []*x509.Certificate{newRoot(t, "slack.com")}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(keytool, "-list", "-storetype", "PKCS12", "-storepass", StorePassword, "-keystore", f.TrustStore()).CombinedOutput()
	if err != nil || strings.Count(string(out), "trustedCertEntry") != 2 || !strings.Contains(string(out), "egret-2") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestParentTrust(t *testing.T) {
	dir := t.TempDir()
	write := func(name, domain string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, certs.EncodeCertificates(newRoot(t, domain)), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	corp, node := write("corp.pem", "corp.example"), write("node.pem", "node.example")
	broken := filepath.Join(dir, "broken.pem")
	if err := os.WriteFile(broken, []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	text, unusable, err := ParentTrust([]string{"SSL_CERT_FILE=" + corp, "NODE_EXTRA_CA_CERTS=" + node, "PIP_CERT=" + broken, "GIT_SSL_CAINFO=" + corp})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(certs.Parseable(certs.Bundle(text))); n != 2 {
		t.Errorf("%d roots, want those of SSL_CERT_FILE and NODE_EXTRA_CA_CERTS", n)
	}
	if len(unusable) != 1 || unusable[0] != "PIP_CERT" {
		t.Errorf("unusable: %v", unusable)
	}
}
