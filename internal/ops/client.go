// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
)

// maxAnswer bounds what Do reads.
const maxAnswer = 64 << 20

// Dial returns a client for the admin socket of an egret. The host of its URLs does not
// matter; http://egret is usual. It keeps no connections, takes no proxy from the
// environment and follows no redirect. Where the socket cannot be reached its errors
// wrap a *DialError.
func Dial(socket string) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				c, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
				if err != nil {
					return nil, &DialError{Socket: socket, Err: err}
				}
				return c, nil
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// DialError: nobody could be reached at the socket. Its text says what to do.
type DialError struct {
	Socket string
	Err    error
}

func (e *DialError) Error() string {
	switch {
	case errors.Is(e.Err, fs.ErrNotExist):
		return fmt.Sprintf("there is no admin socket at %q: is egret running, and is admin.socket set in its egret.yaml?", e.Socket)
	case errors.Is(e.Err, syscall.ECONNREFUSED):
		return fmt.Sprintf("nobody listens on the admin socket %q: is egret running? The socket is left from one that crashed", e.Socket)
	case errors.Is(e.Err, fs.ErrPermission):
		return fmt.Sprintf("the admin socket %q may not be opened by this user: run as root or as egret's user, or add the uid to admin.uids", e.Socket)
	}
	return fmt.Sprintf("admin socket %q: %v", e.Socket, e.Err)
}

// Unwrap returns the cause.
func (e *DialError) Unwrap() error { return e.Err }

// CallError: egret has answered, and refused.
type CallError struct {
	Status  int
	Message string // as egret told it
	ID      string // of the record of the call
}

func (e *CallError) Error() string { return fmt.Sprintf("egret answered %d: %s", e.Status, e.Message) }

// Call is one call on the admin socket.
type Call struct {
	Method string
	Path   string // with query, where there is one
	In     any    // sent as JSON; nil: no body
	Out    any    // a pointer that the answer's JSON is decoded into; nil: the answer is dropped
}

// Do makes a call with a client of Dial. Errors: *DialError, *CallError, those of ctx.
func Do(ctx context.Context, client *http.Client, c Call) error {
	req, err := c.request(ctx)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		var ue *url.Error // says only method and URL, of which the user knows nothing
		if errors.As(err, &ue) {
			return ue.Err
		}
		return err
	}
	defer resp.Body.Close()
	body := io.LimitReader(resp.Body, maxAnswer)
	if resp.StatusCode/100 != 2 {
		return callError(resp, body)
	}
	if c.Out == nil {
		_, err := io.Copy(io.Discard, body)
		return err
	}
	if err := json.NewDecoder(body).Decode(c.Out); err != nil {
		return fmt.Errorf("egret's answer to %s %s: %w", c.Method, c.Path, err)
	}
	return nil
}

func (c Call) request(ctx context.Context) (*http.Request, error) {
	var body io.Reader
	if c.In != nil {
		b, err := json.Marshal(c.In)
		if err != nil {
			return nil, fmt.Errorf("admin call %s %s: %w", c.Method, c.Path, err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, c.Method, "http://egret"+c.Path, body)
	if err != nil {
		return nil, fmt.Errorf("admin call: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

func callError(resp *http.Response, body io.Reader) error {
	e := &CallError{Status: resp.StatusCode, ID: resp.Header.Get(RequestIDHeader)}
	var b errorBody
	if json.NewDecoder(body).Decode(&b) == nil {
		e.Message = b.Error
	}
	if e.Message == "" {
		e.Message = http.StatusText(resp.StatusCode)
	}
	return e
}
