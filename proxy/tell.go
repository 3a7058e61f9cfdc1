// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"io"
	"net"
	"time"

	"github.com/egret-proxy/egret/policy"
)

// opened tells the client of a CONNECT that it may go on. A captured client knows of no
// proxy, and is told nothing.
func (c *clientConn) opened() error {
	if c.original.IsValid() {
		return nil
	}
	_, err := io.WriteString(c, connectOK)
	return err
}

// tell refuses a client before its TLS and closes: in HTTP where it speaks that, else, as
// far as a client without a proxy can be told anything, by an alert of TLS or a reset.
func (c *clientConn) tell(ref *refusal, status int) {
	switch {
	case !c.original.IsValid() && c.speaks == "", c.speaks == openedHTTP:
		writeRawRefusal(c, ref, status, c.id)
	case c.speaks == openedTLS && ref.reason != reasonLoop:
		writeAlert(c, alertFor(ref.reason))
	default:
		reset(c)
	}
}

// Alerts of TLS that a refused client is sent (RFC 8446, 6.2).
const (
	alertAccessDenied     = 49
	alertDecodeError      = 50
	alertInternalError    = 80
	alertUnrecognizedName = 112
)

// alertFor picks the alert whose name, which most clients print, says most.
func alertFor(reason policy.Reason) byte {
	switch {
	case reason == reasonBadHello:
		return alertDecodeError
	case reason.Layer() == "target":
		return alertUnrecognizedName
	case reason.Layer() == "identity" || reason.Layer() == "policy":
		return alertAccessDenied
	}
	return alertInternalError
}

// writeAlert sends a fatal alert in the clear, as a server does that refuses a ClientHello,
// and closes without losing it to a reset.
func writeAlert(c *clientConn, alert byte) {
	defer c.Close()
	const typeAlert, fatal = 21, 2
	_ = c.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.Write([]byte{typeAlert, 3, 1, 0, 2, fatal, alert}); err != nil {
		return
	}
	if c.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, c.Conn, 64<<10)
	}
}

// reset closes so that the client sees at once that nobody is there.
func reset(c *clientConn) {
	if tcp, ok := rawConn(c.Conn).(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}
