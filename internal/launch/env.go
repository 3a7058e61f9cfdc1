// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Env says what a child's environment is made from.
type Env struct {
	Parent  []string // as os.Environ
	Proxy   *url.URL // from ParseProxy
	NoProxy []string // hosts to reach directly, from ParseNoProxy
	Folder  Folder
}

// ParseProxy reads the address of an egret listener: http://host:port or https://….
// Credentials in it are refused, since the child and every program that may read its
// environment would have them (MUST C9).
func ParseProxy(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("the proxy is not a URL (write it as http://127.0.0.1:8630)") // the cause may quote a password
	}
	switch {
	case u.User != nil:
		return nil, fmt.Errorf("the proxy URL carries credentials, which the child's environment would show (use a listener that identifies its callers otherwise)")
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", u.Port() == "", u.Path != "" && u.Path != "/":
		return nil, fmt.Errorf("proxy %q is not of the form http://host:port or https://host:port", s)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// ParseNoProxy checks a host that the child may reach directly: a name or an address.
func ParseNoProxy(s string) (string, error) {
	host := strings.TrimPrefix(strings.TrimPrefix(s, "*"), ".")
	if host == "" || strings.ContainsAny(host, "*,| \t/:\"'") && net.ParseIP(host) == nil {
		return "", fmt.Errorf("%q is not one host name or address (runtimes read patterns, ports and ranges differently)", s)
	}
	return host, nil
}

// Environ returns the child's environment, and what was taken out of the parent's by
// name, for a note to the user. Values are never in the notes.
func (e Env) Environ() (env, dropped []string) {
	set := e.variables()
	for _, kv := range e.Parent {
		name, value, _ := strings.Cut(kv, "=")
		if _, ours := set[name]; ours {
			if hidesProxy(name, value) {
				dropped = append(dropped, name)
			}
			continue
		}
		if overrides(name) || hidesProxy(name, value) {
			dropped = append(dropped, name)
			continue
		}
		env = append(env, kv)
	}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		env = append(env, name+"="+set[name])
	}
	return env, dropped
}

func (e Env) variables() map[string]string {
	set := make(map[string]string)
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"} { // curl and .NET read both cases, others one
		set[name], set[strings.ToLower(name)] = e.Proxy.String(), e.Proxy.String()
	}
	set["grpc_proxy"] = e.Proxy.String()
	for _, name := range []string{"NO_PROXY", "no_proxy", "no_grpc_proxy"} {
		set[name] = e.noProxy()
	}
	set["NODE_USE_ENV_PROXY"] = "1"
	for _, name := range replacing() {
		set[name] = e.Folder.Bundle()
	}
	set["NODE_EXTRA_CA_CERTS"] = e.Folder.CA()
	set["DENO_CERT"] = e.Folder.CA()
	for _, name := range []string{"NODE_EXTRA_CA_CERTS", "DENO_CERT"} {
		if value(e.Parent, name) != "" {
			set[name] = e.Folder.Bundle() // which holds the parent's extra roots too, see ParentTrust
		}
	}
	set["JAVA_TOOL_OPTIONS"] = strings.TrimSpace(value(e.Parent, "JAVA_TOOL_OPTIONS") + " " + e.javaOptions())
	if !e.hasWgetrc() {
		set["WGETRC"] = e.Folder.Wgetrc()
	}
	set["PHP_INI_SCAN_DIR"] = value(e.Parent, "PHP_INI_SCAN_DIR") + ":" + string(e.Folder) // an empty part is PHP's own folder
	return set
}

// hasWgetrc reports whether wget reads settings of the user's own. Ours would take their
// place, and they may hold passwords, so that they are not copied either.
func (e Env) hasWgetrc() bool {
	if value(e.Parent, "WGETRC") != "" {
		return true
	}
	home := value(e.Parent, "HOME")
	if home == "" {
		return false
	}
	_, err := os.Stat(filepath.Join(home, ".wgetrc"))
	return err == nil
}

// replacing are the variables whose file takes the place of a runtime's own roots.
func replacing() []string {
	return []string{
		"SSL_CERT_FILE",                      // OpenSSL, Go, Python's ssl, Ruby, rustls-native-certs, .NET on Linux
		"REQUESTS_CA_BUNDLE",                 // Python requests
		"CURL_CA_BUNDLE",                     // curl, R
		"GIT_SSL_CAINFO",                     // git, whose libcurl-gnutls ignores SSL_CERT_FILE
		"AWS_CA_BUNDLE",                      // AWS SDKs and CLI
		"PIP_CERT",                           // pip
		"CARGO_HTTP_CAINFO",                  // cargo
		"HTTPLIB2_CA_CERTS",                  // Python httplib2
		"NIX_SSL_CERT_FILE",                  // programs built by Nix
		"BUNDLE_SSL_CA_CERT",                 // Ruby's bundler
		"PERL_LWP_SSL_CA_FILE",               // Perl LWP
		"HEX_CACERTS_PATH",                   // Elixir's hex
		"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",   // gRPC core
		"CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", // gcloud
	}
}

// overrides reports whether a runtime would prefer this variable of the parent to what
// we set: a folder of roots beside the file, or a tool's own proxy setting.
func overrides(name string) bool {
	switch strings.ToLower(name) {
	case "ssl_cert_dir", "git_ssl_capath", "requests_ca_path",
		"npm_config_proxy", "npm_config_http_proxy", "npm_config_https_proxy", "npm_config_noproxy", "npm_config_cafile", "npm_config_ca",
		"yarn_http_proxy", "yarn_https_proxy", "pip_proxy", "cargo_http_proxy":
		return true
	}
	return false
}

// hidesProxy reports whether a variable about a proxy carries a password: none of the
// parent's is to reach the child.
func hidesProxy(name, value string) bool {
	if !strings.Contains(strings.ToLower(name), "proxy") {
		return false
	}
	_, rest, ok := strings.Cut(value, "://")
	if !ok {
		rest = value
	}
	authority, _, _ := strings.Cut(rest, "/")
	return strings.Contains(authority, "@")
}

// noProxy lists loopback and each name plain and dotted: .NET and others need the dot
// for what is below a name, others need the name without it.
func (e Env) noProxy() string {
	list := []string{"localhost", "127.0.0.1", "::1"}
	for _, h := range e.NoProxy {
		list = append(list, h)
		if net.ParseIP(h) == nil {
			list = append(list, "."+h)
		}
	}
	return strings.Join(list, ",")
}

func (e Env) javaOptions() string {
	direct := []string{"localhost", "127.*", "[::1]"}
	for _, h := range e.NoProxy {
		direct = append(direct, h)
		if net.ParseIP(h) == nil {
			direct = append(direct, "*."+h)
		}
	}
	options := []string{
		"-Djavax.net.ssl.trustStore=" + e.Folder.TrustStore(),
		"-Djavax.net.ssl.trustStoreType=PKCS12",
		"-Djavax.net.ssl.trustStorePassword=" + StorePassword,
		"-Dhttps.proxyHost=" + e.Proxy.Hostname(),
		"-Dhttps.proxyPort=" + e.Proxy.Port(),
		"-Dhttp.proxyHost=" + e.Proxy.Hostname(),
		"-Dhttp.proxyPort=" + e.Proxy.Port(),
		"-Dhttp.nonProxyHosts=" + strings.Join(direct, "|"),
	}
	for i, o := range options {
		if strings.ContainsAny(o, " \t") {
			options[i] = `"` + o + `"` // the JVM reads quotes in this variable
		}
	}
	return strings.Join(options, " ")
}

// value returns the last setting of a variable, as a process would see it.
func value(env []string, name string) string {
	for _, kv := range slices.Backward(env) {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}

// WhyDropped says why Environ has left a variable of the parent out.
func WhyDropped(name string) string {
	if overrides(name) {
		return "it would override what leads to egret"
	}
	return "it holds the password of another proxy"
}
