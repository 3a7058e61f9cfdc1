// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// helloOf is the ClientHello that crypto/tls sends with these settings, as on the wire.
func helloOf(t testing.TB, cfg *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Client(client, cfg).Handshake()
	}()
	defer func() { _, _ = client.Close(), server.Close(); <-done }()
	head := make([]byte, recordHeader)
	if _, err := io.ReadFull(server, head); err != nil {
		t.Fatal(err)
	}
	wire := make([]byte, recordHeader+int(binary.BigEndian.Uint16(head[3:])))
	if _, err := io.ReadFull(server, wire[copy(wire, head):]); err != nil {
		t.Fatal(err)
	}
	return wire
}

// fragmented cuts a message into records of n bytes.
func fragmented(wire []byte, n int) []byte {
	var out []byte
	for part := range slices.Chunk(wire[recordHeader:], n) {
		out = append(out, typeHandshake, 3, 1, byte(len(part)>>8), byte(len(part)))
		out = append(out, part...)
	}
	return out
}

// build is a ClientHello of one's own making.
func build(extensions ...[]byte) []byte {
	ext := bytes.Join(extensions, nil)
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, 0, 0, 2, 0x13, 0x01, 1, 0)
	body = append(body, byte(len(ext)>>8), byte(len(ext)))
	body = append(body, ext...)
	message := append([]byte{typeClientHello, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
	var out []byte
	for part := range slices.Chunk(message, maxRecord) {
		out = append(out, typeHandshake, 3, 1, byte(len(part)>>8), byte(len(part)))
		out = append(out, part...)
	}
	return out
}

func extension(kind int, data ...byte) []byte {
	return append([]byte{byte(kind >> 8), byte(kind), byte(len(data) >> 8), byte(len(data))}, data...)
}

func serverName(names ...string) []byte {
	var list []byte
	for _, n := range names {
		list = append(list, nameTypeHost, byte(len(n)>>8), byte(len(n)))
		list = append(list, n...)
	}
	return extension(extensionServerName, append([]byte{byte(len(list) >> 8), byte(len(list))}, list...)...)
}

func TestHelloOfCryptoTLS(t *testing.T) {
	wire := helloOf(t, &tls.Config{ServerName: "slack.com", NextProtos: []string{"h2", "http/1.1"}})
	want := hello{serverName: "slack.com", protos: []string{"h2", "http/1.1"}}
	for name, bytes := range map[string][]byte{
		"whole": wire, "records of 1 byte": fragmented(wire, 1), "records of 3 bytes": fragmented(wire, 3), "records of 500 bytes": fragmented(wire, 500),
	} {
		got, err := parseHello(bytes)
		if err != nil || !cmp.Equal(got, want, cmp.AllowUnexported(hello{})) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		for n := range bytes { // any shorter one asks for more
			if _, err := parseHello(bytes[:n]); !errors.Is(err, errMore) {
				t.Fatalf("%s: the first %d bytes: %v", name, n, err)
			}
		}
	}
	if len(wire) < 1200 {
		t.Errorf("%d bytes: this hello holds no post-quantum key share", len(wire))
	}
}

// TestHelloOfRealClients: what curl (OpenSSL), Python, Node, Ruby and Java send, as
// captured, and what Go's own server makes of them.
func TestHelloOfRealClients(t *testing.T) {
	files, err := filepath.Glob("testdata/hello/*.bin")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d captured hellos, %v", len(files), err)
	}
	for _, f := range files {
		wire, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseHello(wire)
		if err != nil || got.serverName != "api.qase.io" {
			t.Errorf("%s: %+v, %v", f, got, err)
		}
		if seen := viewOf(wire); seen == nil || seen.ServerName != got.serverName || !slices.Equal(seen.SupportedProtos, got.protos) {
			t.Errorf("%s: we say %+v, crypto/tls says %+v", f, got, seen)
		}
	}
}

// TestHelloGREASEAndECH: unknown extensions and values pass, and encrypted_client_hello
// is told, whether true or GREASE.
func TestHelloGREASEAndECH(t *testing.T) {
	grease := extension(0x0a0a)
	got, err := parseHello(build(grease, serverName("public.example"), extension(0xdada, 0), extension(extensionECH, make([]byte, 200)...)))
	if err != nil || got.serverName != "public.example" || !got.ech {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err = parseHello(build(extension(21, make([]byte, 30<<10)...), serverName("late.example"), extension(0x1a1a, make([]byte, 30<<10)...))); err != nil || got.serverName != "late.example" {
		t.Errorf("60 KiB: %+v, %v", got, err)
	}
	if got, err = parseHello(build(grease)); err != nil || got.serverName != "" {
		t.Errorf("no name: %+v, %v", got, err)
	}
}

// TestMUST_P3_BrokenHellosAreRefused: fragmented, oversized and ambiguous hellos are
// read whole or refused, never guessed at.
func TestMUST_P3_BrokenHellosAreRefused(t *testing.T) {
	good := build(serverName("slack.com"))
	change := func(at int, b ...byte) []byte { out := slices.Clone(good); copy(out[at:], b); return out }
	huge := build(serverName("slack.com"), extension(21, make([]byte, 40<<10)...), extension(22, make([]byte, 24<<10)...))
	for name, wire := range map[string][]byte{
		"two names":                build(serverName("slack.com", "evil.example")),
		"two server_name":          build(serverName("slack.com"), serverName("evil.example")),
		"two of another extension": build(serverName("slack.com"), extension(21), extension(21)),
		"a dot at its end":         build(serverName("slack.com.")),
		"an empty name":            build(serverName("")),
		"an empty list":            build(extension(extensionServerName, 0, 0)),
		"a list too long":          build(extension(extensionServerName, 0, 9, 0, 0, 1, 'x')),
		"a list too short":         build(extension(extensionServerName, 0, 4, 0, 0, 1, 'x', 'y')),
		"an empty protocol":        build(serverName("slack.com"), extension(extensionALPN, 0, 1, 0)),
		"no protocols":             build(serverName("slack.com"), extension(extensionALPN, 0, 0)),
		"a record of another kind": append(slices.Clone(fragmented(good, 20)[:25]), 23, 3, 1, 0, 1, 0),
		"an empty record":          append(slices.Clone(fragmented(good, 20)[:25]), typeHandshake, 3, 1, 0, 0),
		"another record version":   change(1, 2),
		"another handshake":        change(recordHeader, 2),
		"an old version":           change(recordHeader+helloHeader, 2),
		"a session too long":       change(recordHeader+helloHeader+34, 33),
		"a record too large":       {typeHandshake, 3, 1, 0x40, 1},
		"a message too large":      {typeHandshake, 3, 1, 0, 4, typeClientHello, 1, 0, 0},
		"a message too small":      {typeHandshake, 3, 1, 0, 4, typeClientHello, 0, 0, 3},
		"64 KiB and more":          huge,
		"another message after it": func() []byte {
			out := append(slices.Clone(good), typeClientHello)
			binary.BigEndian.PutUint16(out[3:], uint16(len(out)-recordHeader))
			return out
		}(),
	} {
		if got, err := parseHello(wire); !errors.Is(err, errHello) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// viewOf is what GetConfigForClient of crypto/tls is told, nil where it is not asked.
func viewOf(wire []byte) (seen *tls.ClientHelloInfo) {
	server := tls.Server(&sentConn{r: bytes.NewReader(wire)}, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		seen = h
		return nil, errors.New("seen")
	}})
	_ = server.Handshake()
	return seen
}

// sentConn is a client that has sent this and nothing more.
type sentConn struct {
	net.Conn
	r io.Reader
}

func (c *sentConn) Read(p []byte) (int, error)       { return c.r.Read(p) }
func (c *sentConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c *sentConn) Close() error                     { return nil }
func (c *sentConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *sentConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *sentConn) SetDeadline(time.Time) error      { return nil }
func (c *sentConn) SetWriteDeadline(time.Time) error { return nil }

// disagrees compares our reading with that of crypto/tls, which reads the same bytes
// when the connection is intercepted.
func disagrees(wire []byte) (string, bool) {
	ours, err := parseHello(wire)
	if err != nil {
		return "", false
	}
	seen := viewOf(wire)
	if seen == nil { // stricter than we are: its handshake fails
		return "", false
	}
	return cmp.Diff([]any{seen.ServerName, seen.SupportedProtos}, []any{ours.serverName, ours.protos}), seen.ServerName != ours.serverName || !slices.Equal(seen.SupportedProtos, ours.protos)
}

func FuzzHello(f *testing.F) {
	wire := helloOf(f, &tls.Config{ServerName: "slack.com", NextProtos: []string{"h2", "http/1.1"}})
	for _, seed := range [][]byte{
		wire, fragmented(wire, 7), build(), build(serverName("a.example")), build(serverName("a", "b")), build(extension(extensionECH, 1)),
		build(serverName("slack.com"), extension(extensionALPN, 0, 3, 2, 'h', '2')), build(extension(extensionServerName, 0, 4, 9, 0, 1, 'x')), []byte("GET / HTTP/1.1\r\n"), {typeHandshake},
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		if diff, bad := disagrees(wire); bad {
			t.Errorf("crypto/tls reads it otherwise (-crypto/tls +egret):\n%s", diff)
		}
		h, err := parseHello(wire)
		r := new(helloReader)
		var byByte error
		var got hello
		for n := range len(wire) + 1 { // the same, byte by byte
			if got, byByte = r.read(wire[:n]); !errors.Is(byByte, errMore) {
				break
			}
		}
		if errors.Is(err, errMore) != errors.Is(byByte, errMore) || err == nil && !cmp.Equal(h, got, cmp.AllowUnexported(hello{})) {
			t.Errorf("whole: %+v, %v; byte by byte: %+v, %v", h, err, got, byByte)
		}
	})
}

// TestHelloAgreesWithCryptoTLS: real hellos with bytes changed at random.
func TestHelloAgreesWithCryptoTLS(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	seeds := [][]byte{
		helloOf(t, &tls.Config{ServerName: "slack.com", NextProtos: []string{"h2"}}),
		helloOf(t, &tls.Config{ServerName: "slack.com", MaxVersion: tls.VersionTLS12}),
		build(serverName("slack.com"), extension(extensionALPN, 0, 3, 2, 'h', '2')),
	}
	agreed := 0
	for range 30000 {
		wire := slices.Clone(seeds[random.IntN(len(seeds))])
		for range random.IntN(4) {
			wire[random.IntN(len(wire))] = byte(random.UintN(256))
		}
		diff, bad := disagrees(wire)
		if bad {
			t.Fatalf("%x\ncrypto/tls reads it otherwise:\n%s", wire, diff)
		}
		if _, err := parseHello(wire); err == nil {
			agreed++
		}
	}
	if agreed < 5000 {
		t.Errorf("only %d hellos were read at all", agreed)
	}
}

// TestOpenings: how a client begins, over a real connection, in one piece and byte by byte.
func TestOpenings(t *testing.T) {
	wire := helloOf(t, &tls.Config{ServerName: "slack.com"})
	for name, x := range map[string]struct {
		sent  string
		close bool
		kind  opened
	}{
		"TLS":                  {string(wire), false, openedTLS},
		"TLS, fragmented":      {string(fragmented(wire, 40)), false, openedTLS},
		"HTTP":                 {"GET /x HTTP/1.1\r\n", false, openedHTTP},
		"HTTP/2 in the clear":  {"PRI * HTTP/2.0\r\n", false, openedHTTP},
		"SSH":                  {"SSH-2.0-x\r\n", false, openedOther},
		"half a method":        {"GE", false, openedOther},
		"half a method, ended": {"GE", true, openedOther},
		"TLS of another kind":  {"\x16\x02\x00", false, openedOther},
		"nothing":              {"", false, openedSilent},
		"closed":               {"", true, openedGone},
	} {
		for _, step := range []int{1 << 20, 60} {
			client, server := tcpPair(t)
			go func() {
				for part := range slices.Chunk([]byte(x.sent), step) {
					_, _ = client.Write(part)
					time.Sleep(100 * time.Microsecond)
				}
				if x.close {
					_ = client.Close()
				}
			}()
			p := &peeker{conn: server}
			got := p.open(time.Now().Add(100*time.Millisecond), time.Now().Add(5*time.Second))
			if got.kind != x.kind || !strings.HasPrefix(x.sent, string(got.head)) || x.kind == openedTLS && (got.err != nil || got.hello.serverName != "slack.com") {
				t.Errorf("%s: %s %q, %v", name, got.kind, got.head, got.err)
			}
		}
	}
}

// TestOpeningsAreBounded: a client that never ends its hello is given up, in time and in
// bytes.
func TestOpeningsAreBounded(t *testing.T) {
	client, server := tcpPair(t)
	_, _ = client.Write(helloOf(t, &tls.Config{ServerName: "slack.com"})[:100])
	p := &peeker{conn: server}
	if got := p.open(time.Now().Add(time.Second), time.Now().Add(100*time.Millisecond)); got.kind != openedTLS || !errors.Is(got.err, os.ErrDeadlineExceeded) {
		t.Errorf("late: %+v", got)
	}
	client, server = tcpPair(t)
	go func() {
		_, _ = client.Write(append([]byte{typeHandshake, 3, 1, 0, 4, typeClientHello, 0, 0xff, 0xf0}, bytes.Repeat([]byte{typeHandshake, 3, 1, 0, 1, 0}, 60<<10)...))
	}()
	p = &peeker{conn: server}
	if got := p.open(time.Now().Add(time.Second), time.Now().Add(5*time.Second)); got.kind != openedTLS || !errors.Is(got.err, errHello) || len(got.head) > maxHelloWire+peekStep {
		t.Errorf("a record for each byte: %s, %v, %d bytes", got.kind, got.err, len(got.head))
	}
}

// tcpPair is a connection over loopback.
func tcpPair(t testing.TB) (client, server net.Conn) {
	t.Helper()
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer l.Close()
	client = must(net.Dial("tcp", l.Addr().String()))(t)
	server = must(l.Accept())(t)
	t.Cleanup(func() { _, _ = client.Close(), server.Close() })
	return client, server
}
