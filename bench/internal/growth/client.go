// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package growth

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"time"
)

const (
	bodySize = 1024
	// lifetime bounds a client's connection, so that an answer that never comes ends the run.
	lifetime = 20 * time.Minute
)

// conn is a client's intercepted connection. It costs the client little, so that the
// machine is left to what is measured: a request is one write, an answer is not parsed
// further than it must be.
type conn struct {
	tls     *tls.Conn
	r       *bufio.Reader
	request []byte
}

// dial opens the intercepted connection of a caller to a host.
func (w *world) dial(ctx context.Context, proxy, host, token string) (*conn, error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", proxy)
	if err != nil {
		return nil, err
	}
	_ = raw.SetDeadline(time.Now().Add(lifetime))
	if err := connect(raw, host, token); err != nil {
		_ = raw.Close()
		return nil, err
	}
	config := w.tls.Clone()
	config.ServerName = host
	c := &conn{tls: tls.Client(raw, config), request: fmt.Appendf(nil, "GET %s%d HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\n\r\n", area, bodySize, host)}
	if err := c.tls.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	c.r = bufio.NewReaderSize(c.tls, 2048)
	return c, nil
}

// connect asks for the tunnel. Nothing comes behind the answer before we write, so that
// no byte of TLS is read here.
func connect(raw net.Conn, host, token string) error {
	if _, err := fmt.Fprintf(raw, "CONNECT %s:443 HTTP/1.1\r\nHost: %s:443\r\nProxy-Authorization: Bearer %s\r\n\r\n", host, host, token); err != nil {
		return err
	}
	r := bufio.NewReader(raw)
	size, err := answer(r)
	if err == nil && (size > 0 || r.Buffered() > 0) {
		return fmt.Errorf("CONNECT was answered with %d bytes of body and %d of something else", size, r.Buffered())
	}
	return err
}

// answer reads the head of an answer, which must be 200, and returns the length of its
// body.
func answer(r *bufio.Reader) (size int, err error) {
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		switch {
		case first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")):
			return 0, fmt.Errorf("answered %q, want 200", bytes.TrimSpace(line))
		case len(line) <= 2:
			return size, nil
		}
		if name, value, _ := bytes.Cut(line, []byte(":")); bytes.EqualFold(name, []byte("Content-Length")) {
			if size, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, fmt.Errorf("Content-Length: %w", err)
			}
		}
	}
}

// get makes one request and reads its answer.
func (c *conn) get() error {
	if _, err := c.tls.Write(c.request); err != nil {
		return err
	}
	size, err := answer(c.r)
	if err != nil {
		return err
	}
	if size != bodySize {
		return fmt.Errorf("answered with %d bytes, want %d", size, bodySize)
	}
	_, err = c.r.Discard(size)
	return err
}

func (c *conn) close() { _ = c.tls.NetConn().Close() }
