// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// httpCaller makes requests on one connection: each has a transport of its own, so that
// the number of connections is what was asked for and no pool chooses among them.
type httpCaller struct {
	d         *door
	transport *http.Transport
}

// transport makes a client for one connection.
func (d *door) transport(sessions tls.ClientSessionCache) *http.Transport {
	p := new(http.Protocols)
	p.SetHTTP1(d.spec.Proto == H1)
	p.SetHTTP2(d.spec.Proto == H2)
	t := &http.Transport{
		Protocols: p, DisableCompression: true, IdleConnTimeout: 10 * time.Minute,
		TLSClientConfig:     d.tls(sessions),
		TLSHandshakeTimeout: 10 * time.Second,
		HTTP2:               &http.HTTP2Config{StrictMaxConcurrentRequests: true},
		DialContext:         d.dial,
	}
	if d.spec.Proto == H1 {
		t.MaxConnsPerHost = 1
	}
	if d.proxy != nil {
		t.Proxy = http.ProxyURL(d.proxy)
	}
	return t
}

func (h *httpCaller) close() { h.transport.CloseIdleConnections() }

// call makes one request and reads the whole answer.
func (h *httpCaller) call(ctx context.Context, w *worker) error {
	s := h.d.spec
	r := (&http.Request{Method: http.MethodGet, URL: h.d.url, Host: h.d.url.Host, Header: make(http.Header, 2)}).WithContext(ctx)
	if s.Token != "" {
		r.Header["Authorization"] = []string{"Bearer " + s.Token}
	}
	if s.Upload > 0 {
		r.Method, r.ContentLength = http.MethodPost, s.Upload
		r.Body = &upload{left: s.Upload, chunk: h.d.chunk, w: w}
	}
	resp, err := h.transport.RoundTrip(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := w.drain(resp.Body)
	if err != nil {
		return fmt.Errorf("reading the body: %w", err)
	}
	if resp.TLS != nil && resp.TLS.DidResume {
		h.d.resumed.Add(1)
	}
	return s.judge(resp, n)
}

// judge says what is wrong with an answer whose body had n bytes.
func (s Spec) judge(resp *http.Response, n int64) error {
	switch {
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("status %d (%s)", resp.StatusCode, resp.Header.Get("Egret-Decision"))
	case n != s.Bytes:
		return fmt.Errorf("%d bytes instead of %d", n, s.Bytes)
	case s.Upload > 0 && resp.Header.Get("Received") != strconv.FormatInt(s.Upload, 10):
		return fmt.Errorf("the server received %q bytes of %d", resp.Header.Get("Received"), s.Upload)
	case resp.ProtoMajor == 2 != (s.Proto == H2):
		return fmt.Errorf("answered over %s, want %s", resp.Proto, s.Proto)
	}
	return nil
}

// upload is a body that counts its bytes as they are taken.
type upload struct {
	left  int64
	chunk []byte
	w     *worker
}

// Read implements io.Reader.
func (u *upload) Read(p []byte) (int, error) {
	if u.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(copy(p, u.chunk)), u.left)
	u.left -= n
	u.w.bytes.Add(n)
	return int(n), nil
}

// Close implements io.Closer.
func (*upload) Close() error { return nil }

// drain reads to the end.
func (w *worker) drain(body io.Reader) (total int64, err error) {
	for {
		n, err := body.Read(w.buf)
		total += int64(n)
		w.bytes.Add(int64(n))
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return total, nil
		default:
			return total, err
		}
	}
}
