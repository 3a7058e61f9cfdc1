// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package origin

import (
	"net/http"

	"github.com/coder/websocket"
)

// maxMessage bounds a message of a WebSocket.
const maxMessage = 1 << 20

// echo sends every message of a WebSocket back until the client goes.
func (o *Origin) echo(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return // Accept has answered
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(maxMessage)
	for {
		kind, message, err := c.Read(r.Context())
		if err != nil {
			return
		}
		o.answered.Add(1)
		if err := c.Write(r.Context(), kind, message); err != nil {
			return
		}
	}
}
