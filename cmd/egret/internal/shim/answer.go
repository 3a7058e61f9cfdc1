// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/egret-proxy/egret/internal/escape"
)

// refusal is an answer of the shim's own, in the form of the node's. There is no id in
// it: the node, which keeps the records, has not seen the request.
type refusal struct {
	status       int
	layer, code  string
	title, cause string
}

func noSource(err error) refusal {
	return refusal{http.StatusServiceUnavailable, "identity", "source_unavailable", "egret exec has no identity to show to the node", err.Error()}
}

func noNode(err error) refusal {
	return refusal{http.StatusBadGateway, "shim", "node_unreachable", "egret exec does not reach the node, or cannot verify it", err.Error()}
}

func full(most int) refusal {
	return refusal{http.StatusServiceUnavailable, "limit", "too_many_connections", "too many connections at once through egret exec", fmt.Sprintf("%d are open", most)}
}

// Bounds of reading what is refused.
const (
	headTime  = 5 * time.Second
	headBytes = 64 << 10
)

// answer reads the request's header, since a client that is answered while it still
// sends sees a reset, and refuses it.
func (r refusal) answer(c net.Conn) {
	_ = c.SetDeadline(time.Now().Add(headTime))
	head := make([]byte, 0, 4<<10)
	for !bytes.Contains(head, []byte("\r\n\r\n")) && len(head) < headBytes {
		buf := make([]byte, 4<<10)
		n, err := c.Read(buf)
		if head = append(head, buf[:n]...); err != nil {
			return
		}
	}
	_, _ = c.Write(r.bytes())
}

func (r refusal) bytes() []byte {
	body, err := json.Marshal(map[string]any{"title": r.title, "status": r.status, "detail": escape.Terminal(r.cause), "layer": r.layer, "reason": r.code})
	if err != nil { // strings and a number only: cannot happen
		return nil
	}
	return fmt.Appendf(nil, "HTTP/1.1 %d egret %s/%s\r\nEgret-Decision: %[2]s; reason=%[3]s\r\nCache-Control: no-store\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s\n",
		r.status, r.layer, r.code, len(body)+1, body)
}
