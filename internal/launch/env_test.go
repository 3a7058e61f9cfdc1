// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func testEnv(parent ...string) Env {
	return Env{Parent: parent, Proxy: &url.URL{Scheme: "http", Host: "127.0.0.1:8630"}, Folder: "/t"}
}

func asMap(env []string) map[string]string {
	m := make(map[string]string)
	for _, kv := range env {
		k, v, _ := strings.Cut(kv, "=")
		m[k] = v
	}
	return m
}

const javaTrust = "-Djavax.net.ssl.trustStore=/t/trust.p12 -Djavax.net.ssl.trustStoreType=PKCS12 -Djavax.net.ssl.trustStorePassword=changeit" +
	" -Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=8630 -Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=8630"

func TestEnvironOfEmptyParent(t *testing.T) {
	got, dropped := testEnv().Environ()
	want := map[string]string{
		"HTTPS_PROXY": "http://127.0.0.1:8630", "https_proxy": "http://127.0.0.1:8630",
		"HTTP_PROXY": "http://127.0.0.1:8630", "http_proxy": "http://127.0.0.1:8630",
		"ALL_PROXY": "http://127.0.0.1:8630", "all_proxy": "http://127.0.0.1:8630",
		"grpc_proxy": "http://127.0.0.1:8630",
		"NO_PROXY":   "localhost,127.0.0.1,::1", "no_proxy": "localhost,127.0.0.1,::1", "no_grpc_proxy": "localhost,127.0.0.1,::1",
		"NODE_USE_ENV_PROXY":  "1",
		"NODE_EXTRA_CA_CERTS": "/t/ca.pem", "DENO_CERT": "/t/ca.pem",
		"SSL_CERT_FILE": "/t/bundle.pem", "REQUESTS_CA_BUNDLE": "/t/bundle.pem", "CURL_CA_BUNDLE": "/t/bundle.pem",
		"GIT_SSL_CAINFO": "/t/bundle.pem", "AWS_CA_BUNDLE": "/t/bundle.pem", "PIP_CERT": "/t/bundle.pem",
		"CARGO_HTTP_CAINFO": "/t/bundle.pem", "HTTPLIB2_CA_CERTS": "/t/bundle.pem", "NIX_SSL_CERT_FILE": "/t/bundle.pem",
		"BUNDLE_SSL_CA_CERT": "/t/bundle.pem", "PERL_LWP_SSL_CA_FILE": "/t/bundle.pem", "HEX_CACERTS_PATH": "/t/bundle.pem",
		"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": "/t/bundle.pem", "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE": "/t/bundle.pem",
		"JAVA_TOOL_OPTIONS": javaTrust + " -Dhttp.nonProxyHosts=localhost|127.*|[::1]",
		"PHP_INI_SCAN_DIR":  ":/t",
		"WGETRC":            "/t/wgetrc",
	}
	if diff := cmp.Diff(want, asMap(got)); diff != "" {
		t.Error(diff)
	}
	if len(got) != len(want) || dropped != nil {
		t.Errorf("%d variables of %d, dropped %v", len(got), len(want), dropped)
	}
}

func TestEnvironOfParent(t *testing.T) {
	tests := []struct {
		name, parent string
		want         map[string]string // "" must be unset
		dropped      bool
	}{
		{"others stay", "HOME=/root", map[string]string{"HOME": "/root"}, false},
		{"a value with =", "A=b=c", map[string]string{"A": "b=c"}, false},
		{"Java options are kept", "JAVA_TOOL_OPTIONS=-Xmx1g", map[string]string{"JAVA_TOOL_OPTIONS": "-Xmx1g " + javaTrust + " -Dhttp.nonProxyHosts=localhost|127.*|[::1]"}, false},
		{"wget's own settings are kept", "WGETRC=/etc/my-wgetrc", map[string]string{"WGETRC": "/etc/my-wgetrc"}, false},
		{"PHP folders are kept", "PHP_INI_SCAN_DIR=/etc/php", map[string]string{"PHP_INI_SCAN_DIR": "/etc/php:/t"}, false},
		{"a company's Node roots are kept", "NODE_EXTRA_CA_CERTS=/corp.pem", map[string]string{"NODE_EXTRA_CA_CERTS": "/t/bundle.pem"}, false},
		{"a company's Deno roots are kept", "DENO_CERT=/corp.pem", map[string]string{"DENO_CERT": "/t/bundle.pem"}, false},
		{"another proxy", "https_proxy=http://corp:3128", map[string]string{"https_proxy": "http://127.0.0.1:8630"}, false},
		{"another proxy with password", "HTTPS_PROXY=http://u:hunter2@corp:3128", map[string]string{"HTTPS_PROXY": "http://127.0.0.1:8630"}, true},
		{"a password elsewhere", "FTP_PROXY=http://u:hunter2@corp:3128", map[string]string{"FTP_PROXY": ""}, true},
		{"a password without scheme", "RSYNC_PROXY=u:hunter2@corp:3128", map[string]string{"RSYNC_PROXY": ""}, true},
		{"no password", "FTP_PROXY=http://corp:3128/a@b", map[string]string{"FTP_PROXY": "http://corp:3128/a@b"}, false},
		{"npm's own proxy", "npm_config_https_proxy=http://corp:3128", map[string]string{"npm_config_https_proxy": ""}, true},
		{"npm's own roots", "NPM_CONFIG_CAFILE=/corp.pem", map[string]string{"NPM_CONFIG_CAFILE": ""}, true},
		{"a folder of roots", "SSL_CERT_DIR=/etc/ssl/certs", map[string]string{"SSL_CERT_DIR": ""}, true},
		{"direct hosts", "NO_PROXY=*", map[string]string{"NO_PROXY": "localhost,127.0.0.1,::1"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			env, dropped := testEnv(tt.parent).Environ()
			got := asMap(env)
			for name, want := range tt.want {
				if v, ok := got[name]; v != want || ok != (want != "") {
					t.Errorf("%s=%q, want %q", name, v, want)
				}
			}
			if (len(dropped) == 1) != tt.dropped {
				t.Errorf("dropped: %v", dropped)
			}
			if strings.Contains(fmt.Sprint(env, dropped), "hunter2") {
				t.Error("the parent's proxy password reaches the child or the notes")
			}
		})
	}
}

// Settings in the user's home would be lost behind WGETRC.
func TestEnvironKeepsWgetrcOfHome(t *testing.T) {
	home := t.TempDir()
	env, _ := testEnv("HOME=" + home).Environ()
	if got := asMap(env)["WGETRC"]; got != "/t/wgetrc" {
		t.Errorf("without ~/.wgetrc: WGETRC=%q", got)
	}
	if err := os.WriteFile(filepath.Join(home, ".wgetrc"), []byte("tries = 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env, _ = testEnv("HOME=" + home).Environ()
	if got, set := asMap(env)["WGETRC"]; set {
		t.Errorf("with ~/.wgetrc: WGETRC=%q", got)
	}
}

func TestEnvironHasEachOnce(t *testing.T) {
	env, _ := testEnv("https_proxy=a", "https_proxy=b", "PATH=/bin").Environ()
	names := make(map[string]int)
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		names[name]++
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if names[name] != 1 {
			t.Errorf("%s is set %d times", name, names[name])
		}
	}
}

func TestNoProxyForms(t *testing.T) {
	e := testEnv()
	e.NoProxy = []string{"git.acme.example", "10.1.2.3"}
	got := asMap(first(e.Environ()))
	if want := "localhost,127.0.0.1,::1,git.acme.example,.git.acme.example,10.1.2.3"; got["NO_PROXY"] != want || got["no_proxy"] != want {
		t.Errorf("NO_PROXY=%q, want %q", got["NO_PROXY"], want)
	}
	if want := "-Dhttp.nonProxyHosts=localhost|127.*|[::1]|git.acme.example|*.git.acme.example|10.1.2.3"; !strings.HasSuffix(got["JAVA_TOOL_OPTIONS"], want) {
		t.Errorf("JAVA_TOOL_OPTIONS=%q, want the end %q", got["JAVA_TOOL_OPTIONS"], want)
	}
}

func TestJavaOptionsWithSpaces(t *testing.T) {
	e := testEnv()
	e.Folder = "/my files"
	if got := asMap(first(e.Environ()))["JAVA_TOOL_OPTIONS"]; !strings.HasPrefix(got, `"-Djavax.net.ssl.trustStore=/my files/trust.p12" -D`) {
		t.Errorf("JAVA_TOOL_OPTIONS=%q", got)
	}
}

func first[A, B any](a A, _ B) A { return a }

func TestParseProxy(t *testing.T) {
	tests := []struct{ in, want, fault string }{
		{"http://127.0.0.1:8630", "http://127.0.0.1:8630", ""},
		{"https://egret.acme.example:8631/", "https://egret.acme.example:8631", ""},
		{"http://[::1]:8630", "http://[::1]:8630", ""},
		{"127.0.0.1:8630", "", "not"},
		{"http://127.0.0.1", "", "not of the form"},
		{"socks5://127.0.0.1:1080", "", "not of the form"},
		{"http://h:1/path", "", "not of the form"},
		{"http://:8630", "", "not of the form"},
		{"http://u:hunter2@h:1", "", "carries credentials"},
		{"http://u:hunter2@h:port", "", "not a URL"},
		{"", "", "not of the form"},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			u, err := ParseProxy(tt.in)
			if tt.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fault) || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("got %v, want %q", err, tt.fault)
				}
				return
			}
			if err != nil || u.String() != tt.want {
				t.Errorf("got %v, %v", u, err)
			}
		})
	}
}

func TestParseNoProxy(t *testing.T) {
	for in, want := range map[string]string{
		"git.acme.example": "git.acme.example", ".acme.example": "acme.example", "*.acme.example": "acme.example",
		"10.1.2.3": "10.1.2.3", "fd00::1": "fd00::1",
		"*": "", "": "", "a,b": "", "10.0.0.0/8": "", "host:443": "", "a|b": "", "a b": "", `a"b`: "",
	} {
		got, err := ParseNoProxy(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

// The property: what is accepted is one entry of each runtime's list, and quotes
// nothing in JAVA_TOOL_OPTIONS.
func FuzzParseNoProxy(f *testing.F) {
	for _, s := range []string{"a.b", "*.x", "::1", "a,b", "\"", "*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if host, err := ParseNoProxy(s); err == nil && (host == "" || strings.ContainsAny(host, ",|*\"' \t/")) {
			t.Errorf("%q gave %q", s, host)
		}
	})
}
