// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"fmt"
	"net/http"

	"github.com/coder/websocket"
)

// socketCaller sends messages over one WebSocket and waits for their echo; one at a time.
type socketCaller struct {
	d      *door
	socket *websocket.Conn
	send   []byte
}

func newWebSocket(ctx context.Context, d *door) (*socketCaller, error) {
	header := http.Header{}
	if d.spec.Token != "" {
		header.Set("Authorization", "Bearer "+d.spec.Token)
	}
	//nolint:bodyclose // Dial says that the body needs no closing
	c, _, err := websocket.Dial(ctx, d.spec.URL, &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: d.transport(nil)}, HTTPHeader: header, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, err
	}
	c.SetReadLimit(d.spec.Bytes + 1)
	return &socketCaller{d: d, socket: c, send: make([]byte, d.spec.Bytes)}, nil
}

func (s *socketCaller) close() { _ = s.socket.CloseNow() }

func (s *socketCaller) call(ctx context.Context, w *worker) error {
	if err := s.socket.Write(ctx, websocket.MessageBinary, s.send); err != nil {
		return err
	}
	_, got, err := s.socket.Read(ctx)
	if err != nil {
		return err
	}
	w.bytes.Add(int64(len(s.send) + len(got)))
	if len(got) != len(s.send) {
		return fmt.Errorf("an echo of %d bytes instead of %d", len(got), len(s.send))
	}
	return nil
}
