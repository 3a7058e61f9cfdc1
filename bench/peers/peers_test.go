// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"strings"
	"testing"
)

func TestRender(t *testing.T) {
	v := Values{Dir: "/d", Address: "127.0.0.1:1", Origin: "127.0.0.1:2", GRPC: "127.0.0.1:3", Host: "h.test", Token: "secret", Workers: 2, Helper: "/helper"}
	for name, want := range map[string][]string{
		"nginx/nginx.conf":    {"listen 127.0.0.1:1 ssl", "server 127.0.0.1:2;", "proxy_ssl_verify on", `"Bearer secret"`, "proxy_ssl_name h.test"},
		"haproxy/haproxy.cfg": {"bind 127.0.0.1:1", "server origin 127.0.0.1:2"},
		"squid/squid.conf":    {"http_port 127.0.0.1:1 ssl-bump", "default-ca=off", `"Bearer secret"`, "/helper -s /d/certs"},
		"mitmproxy/inject.py": {`"127.0.0.1:2"`, `"Bearer secret"`},
	} {
		got, err := Render(name, v)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s lacks %q", name, w)
			}
		}
		if strings.Contains(got, "{{") || strings.Contains(got, "user root") {
			t.Errorf("%s is not filled in:\n%s", name, got)
		}
		if text, err := Text(name); err != nil || strings.Contains(text, "secret") || !strings.Contains(text, "{{") {
			t.Errorf("%s as it is in the tree has values: %v", name, err)
		}
	}
	if _, err := Render("nginx/none.conf", v); err == nil {
		t.Error("a file that is not there is rendered")
	}
}
