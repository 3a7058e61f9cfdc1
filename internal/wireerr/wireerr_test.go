// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package wireerr

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
)

const hush = "S3CR-3T-t0ken"

// answer lets a client ask a peer that answers with these bytes.
func answer(t testing.TB, wire string) error {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		go func() {
			defer there.Close()
			_, _ = http.ReadRequest(bufio.NewReader(there))
			_, _ = io.WriteString(there, wire)
		}()
		return here, nil
	}}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://peer.example/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func TestMUST_C9_NothingThatAPeerSentIsQuoted(t *testing.T) {
	for name, tc := range map[string]struct{ wire, want string }{
		"status code":       {"HTTP/1.1 " + hush + " OK\r\n\r\n", "status line"},
		"status line":       {hush + "\r\n\r\n", "status line"},
		"version":           {"HTTP/" + hush + " 200 OK\r\n\r\n", "status line"},
		"header line":       {"HTTP/1.1 200 OK\r\n" + hush + "\r\n\r\n", "header line"},
		"header name":       {"HTTP/1.1 200 OK\r\n" + hush + "\x00: y\r\n\r\n", "header line"},
		"content length":    {"HTTP/1.1 200 OK\r\nContent-Length: " + hush + "\r\n\r\n", "Content-Length"},
		"two lengths":       {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: " + hush + "\r\n\r\n", "Content-Length"},
		"transfer encoding": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + hush + "\r\n\r\n", "Transfer-Encoding"},
		"chunk":             {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + hush + "\r\n", "chunked"},
		"trailer":           {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + hush + "\r\n\r\n", ""},
		"short":             {"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + hush, "middle"},
		"nothing":           {"", "closed"},
	} {
		err := answer(t, tc.wire)
		if err == nil {
			t.Errorf("%s: the answer was taken", name)
			continue
		}
		got := Wrap(fmt.Errorf("around: %w", err))
		if broke := name == "short" || name == "nothing"; Malformed(got) == broke {
			t.Errorf("%s: malformed %t", name, !broke)
		}
		if strings.Contains(fmt.Sprintf("%v %+v %q", got, got, got), hush) || !strings.Contains(got.Error(), tc.want) {
			t.Errorf("%s: %q, was %q", name, got, err)
		}
	}
}

func TestWords(t *testing.T) {
	addr := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443}
	refused := &net.OpError{Op: "dial", Net: "tcp", Addr: addr, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	for want, err := range map[string]error{
		"dial 192.0.2.1:443: connection refused":                fmt.Errorf("x: %w", refused),
		"dial 192.0.2.1:443: timed out":                         &net.OpError{Op: "dial", Addr: addr, Err: os.ErrDeadlineExceeded},
		"proxyconnect: failed":                                  &net.OpError{Op: "proxyconnect", Err: errors.New(hush)},
		"connection reset by peer":                              syscall.ECONNRESET,
		"lookup a.example on 192.0.2.53:53: no such host":       &net.DNSError{Err: "no such host", Name: "a.example", Server: "192.0.2.53:53"},
		`x509: certificate is not valid for "a.example"`:        x509.HostnameError{Host: "a.example", Certificate: &x509.Certificate{DNSNames: []string{hush}}},
		"x509: certificate signed by unknown authority":         &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}},
		"x509: certificate has expired or is not yet valid":     x509.CertificateInvalidError{Reason: x509.Expired, Detail: hush},
		"tls: server selected unsupported protocol version 301": errors.New("tls: server selected unsupported protocol version 301"),
		"tls: failed to parse certificate from server":          errors.New("tls: failed to parse certificate from server: " + hush),
		"the peer ended the HTTP/2 connection (GOAWAY)":         errors.New(`http2: server sent GOAWAY and closed the connection; debug="` + hush + `"`),
		"the peer switched to a protocol that was not asked for": fmt.Errorf("backend tried to switch protocol %q when %q was requested",
			hush, "websocket"),
		"the peer's answer broke off or was not valid HTTP": errors.New(hush),
		"timed out": context.DeadlineExceeded,
	} {
		if got := Words(err); got != want {
			t.Errorf("%q for %v, want %q", got, err, want)
		}
	}
}

func TestWrapKeepsWhatCallersLookFor(t *testing.T) {
	if Wrap(nil) != nil || Wrap(io.EOF) != io.EOF { //nolint:errorlint // readers compare so
		t.Error("nil and io.EOF must stay")
	}
	err := Wrap(fmt.Errorf("%s: %w", hush, syscall.ECONNRESET))
	if !errors.Is(err, syscall.ECONNRESET) || Wrap(err) != err || Wrap(fmt.Errorf("x %s %w", hush, err)).Error() != err.Error() { //nolint:errorlint // identity is what is tested
		t.Errorf("%v", err)
	}
}
