// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func script(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNotes(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir+":/bin:/usr/bin")
	script(t, dir, "npm", "#!/usr/bin/env node\n")
	script(t, dir, "php", "#!/bin/sh\n")
	script(t, dir, "wget", "#!/bin/sh\n")
	script(t, dir, "java", "#!/bin/sh\n")
	script(t, dir, "tool", "#!/bin/sh\n")
	if err := os.Symlink(filepath.Join(dir, "wget"), filepath.Join(dir, "fetch")); err != nil {
		t.Fatal(err)
	}
	http, https := Env{Proxy: &url.URL{Scheme: "http"}}, Env{Proxy: &url.URL{Scheme: "https"}}
	wgetrc := Env{Proxy: http.Proxy, Parent: []string{"WGETRC=/etc/my-wgetrc"}}
	tests := []struct {
		name, program, node string
		env                 Env
		want                string // "" is no note
	}{
		{"old node", "node", "v20.20.2", http, "node v20.20.2 ignores proxy variables and would go around egret: use node 22.21, 24.5 or later, or have the kernel lead it to egret: egret redirect --help"},
		{"script for old node", "npm", "v22.20.0", http, "node v22.20.0 ignores"},
		{"script by path", filepath.Join(dir, "npm"), "v18.0.0", http, "node v18.0.0 ignores"},
		{"new node", "node", "v22.21.0", http, ""},
		{"odd node", "node", "nightly", http, ""},
		{"php", "php", "", http, "PHP's streams"},
		{"wget", "wget", "", http, ""},
		{"wget with settings", "wget", "", wgetrc, "--ca-certificate"},
		{"wget by another name", "fetch", "", wgetrc, "--ca-certificate"},
		{"java", "java", "", http, ""},
		{"java and TLS", "java", "", https, "Java cannot speak TLS"},
		{"other", "tool", "", http, ""},
		{"missing", "egret-no-such-program", "", http, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			script(t, dir, "node", "#!/bin/sh\necho "+tt.node+"\n")
			got := strings.Join(Notes(context.Background(), tt.program, tt.env), "|")
			if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestReadsProxy(t *testing.T) {
	for version, want := range map[string]bool{
		"v18.20.8": false, "v20.20.2": false, "v22.20.0": false, "v22.21.0": true, "v22.99.1": true, "v23.11.1": false,
		"v24.0.0": false, "v24.4.1": false, "v24.5.0": true, "v25.0.0": true, "v30.1.0": true, "": true, "x": true, "v.": true,
	} {
		if got := readsProxy(version); got != want {
			t.Errorf("%q: %v", version, got)
		}
	}
}

func TestWhyDropped(t *testing.T) {
	for name, want := range map[string]string{"SSL_CERT_DIR": "override", "HTTPS_PROXY": "another proxy"} {
		if got := WhyDropped(name); !strings.Contains(got, want) {
			t.Errorf("%s: %s", name, got)
		}
	}
}
