// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package saas

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"testing"
)

func TestCAIsOnlyForItsNames(t *testing.T) {
	ca, err := NewCA()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Certificate("slack.com")
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{"slack.com": true, "a.slack.com": false, "qase.io": false, "127.0.0.1": false} {
		_, err := leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: ca.Pool()})
		if (err == nil) != want {
			t.Errorf("%s: %v", host, err)
		}
	}
	block, rest := pem.Decode(ca.PEM())
	if block == nil || len(rest) != 0 {
		t.Fatal("PEM is not one block")
	}
	other, err := NewCA()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{DNSName: "slack.com", Roots: other.Pool()}); err == nil {
		t.Error("another CA vouches for the leaf")
	}
}

func hello(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) })
}

func TestServerServesByName(t *testing.T) {
	_, client := serve(t, Host{Name: "slack.com", Handler: hello("slack")}, Host{Name: "api.qase.io", Handler: hello("qase")})
	for _, protocol := range []string{"http/1.1", "h2"} {
		c := client(protocol)
		for host, want := range map[string]string{"slack.com": "slack", "api.qase.io": "qase"} {
			resp, body := fetch(t, c, request(t, "GET", "https://"+host+"/", nil))
			if string(body) != want || (resp.ProtoMajor == 2) != (protocol == "h2") {
				t.Errorf("%s over %s: %q, %s", host, protocol, body, resp.Proto)
			}
		}
		if resp, err := c.Do(request(t, "GET", "https://github.com/", nil)); err == nil {
			resp.Body.Close()
			t.Errorf("%s: an unknown name was served", protocol)
		}
	}
}

func TestServerRefusesAnotherAuthority(t *testing.T) {
	_, client := serve(t, Host{Name: "slack.com", Handler: hello("slack")}, Host{Name: "api.qase.io", Handler: hello("qase")})
	for _, protocol := range []string{"http/1.1", "h2"} {
		r := request(t, "GET", "https://slack.com/", nil)
		r.Host = "api.qase.io"
		if resp, body := fetch(t, client(protocol), r); resp.StatusCode != http.StatusMisdirectedRequest {
			t.Errorf("%s: got %d %q", protocol, resp.StatusCode, body)
		}
	}
}

func TestServerProtocols(t *testing.T) {
	ca, err := NewCA()
	if err != nil {
		t.Fatal(err)
	}
	s, err := Listen(ca, Host{Name: "new.example", Handler: hello("")}, Host{Name: "old.example", Handler: hello(""), HTTP1Only: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, tc := range []struct {
		host    string
		version uint16
		alpn    string
		fails   bool
	}{
		{host: "new.example", version: tls.VersionTLS13, alpn: "h2"},
		{host: "new.example", version: tls.VersionTLS12, alpn: "h2"},
		{host: "old.example", version: tls.VersionTLS13, alpn: "http/1.1"},
		{host: "new.example", version: tls.VersionTLS11, fails: true},
	} {
		conn, err := tls.Dial("tcp", s.Addr(), &tls.Config{
			RootCAs: ca.Pool(), ServerName: tc.host, MinVersion: tc.version, MaxVersion: tc.version,
			NextProtos: []string{"h2", "http/1.1"},
		})
		if tc.fails != (err != nil) {
			t.Errorf("%s at %x: %v", tc.host, tc.version, err)
		}
		if err != nil {
			continue
		}
		if got := conn.ConnectionState().NegotiatedProtocol; got != tc.alpn {
			t.Errorf("%s at %x: ALPN is %q", tc.host, tc.version, got)
		}
		conn.Close()
	}
}
