// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Bounds of a ClientHello. Post-quantum key shares make honest ones 2 KiB long; crypto/tls
// takes messages of up to 64 KiB too.
const (
	maxHello     = 64 << 10       // the handshake message with its header
	maxHelloWire = 2 * maxHello   // with record headers: fragments of a byte each are an attack
	recordHeader = 5              // type, version, length
	maxRecord    = 16 << 10       // RFC 8446, 5.1
	helloHeader  = 4              // message type, length
	helloMinimum = 2 + 32 + 1 + 2 // version, random, session id, cipher suites
)

// Values of the wire (RFC 8446, 4 and 5; RFC 9849, 5).
const (
	typeHandshake   = 22
	typeClientHello = 1

	extensionServerName = 0
	extensionALPN       = 16
	extensionECH        = 0xfe0d
	nameTypeHost        = 0
)

// hello is what a captured connection's ClientHello says about where it goes. crypto/tls
// reads the same bytes again when the connection is intercepted, and the two must agree
// on the server name (configFor).
type hello struct {
	serverName string // as sent; "" where there is none
	protos     []string
	ech        bool // it carries encrypted_client_hello, true or GREASE: nobody but the far end can tell
}

// errHello: what came is not a ClientHello as the RFCs have it. It is never guessed at:
// what cannot be read is refused (MUST P3).
var errHello = errors.New("malformed ClientHello")

// errMore: it is well-formed so far, and there is more to come.
var errMore = errors.New("the ClientHello is not complete")

// parseHello reads the ClientHello at the start of what a client has sent, whichever way
// it is cut into records. errMore asks for more bytes; errHello is final.
func parseHello(wire []byte) (hello, error) { return new(helloReader).read(wire) }

// helloReader is parseHello for bytes that arrive little by little: nothing is read twice,
// so that a client that sends single bytes costs no more than another.
type helloReader struct {
	seen    int    // bytes of the wire that have been joined
	message []byte // the handshake message so far, with its header
}

// read goes on with the same wire, which has grown since the last call.
func (r *helloReader) read(wire []byte) (hello, error) {
	for {
		fragment, err := cutRecord(wire[r.seen:])
		if err != nil {
			return hello{}, err
		}
		r.seen += recordHeader + len(fragment)
		r.message = append(r.message, fragment...)
		whole, err := wholeHello(r.message)
		if err != nil {
			return hello{}, err
		}
		if whole {
			return parseClientHello(r.message[helloHeader:])
		}
	}
}

// wholeHello reports whether the message is complete. It must end where its last record
// does: nothing may follow a ClientHello before it is answered.
func wholeHello(message []byte) (bool, error) {
	if len(message) < helloHeader {
		return false, nil
	}
	want, err := helloLength(message)
	if err == nil && len(message) > want {
		err = fmt.Errorf("%w: another message in its last record", errHello)
	}
	return err == nil && len(message) == want, err
}

// cutRecord takes one record off the wire.
func cutRecord(wire []byte) (fragment []byte, err error) {
	if err := recordProblem(wire); err != nil {
		return nil, err
	}
	if len(wire) < recordHeader {
		return nil, errMore
	}
	n := int(binary.BigEndian.Uint16(wire[3:]))
	if len(wire) < recordHeader+n {
		return nil, errMore
	}
	return wire[recordHeader : recordHeader+n], nil
}

// recordProblem judges as much of a record's header as has come.
func recordProblem(wire []byte) error {
	switch {
	case len(wire) > 0 && wire[0] != typeHandshake:
		return fmt.Errorf("%w: a record of type %d", errHello, wire[0])
	case len(wire) > 1 && wire[1] != 3:
		return fmt.Errorf("%w: a record of version %d", errHello, wire[1])
	case len(wire) < recordHeader:
		return nil
	}
	if n := binary.BigEndian.Uint16(wire[3:]); n == 0 || n > maxRecord {
		return fmt.Errorf("%w: a record of %d bytes", errHello, n)
	}
	return nil
}

// helloLength is the length of the message with its header.
func helloLength(message []byte) (int, error) {
	n := int(message[1])<<16 | int(message[2])<<8 | int(message[3])
	switch {
	case message[0] != typeClientHello:
		return 0, fmt.Errorf("%w: a handshake message of type %d", errHello, message[0])
	case n < helloMinimum:
		return 0, fmt.Errorf("%w: only %d bytes", errHello, n)
	case n+helloHeader > maxHello:
		return 0, fmt.Errorf("%w: %d bytes, more than %d", errHello, n, maxHello)
	}
	return n + helloHeader, nil
}

// parseClientHello reads the body of the message (RFC 8446, 4.1.2).
func parseClientHello(body []byte) (hello, error) {
	c := cursor{rest: body}
	version := c.number(2)
	c.take(32) // random
	session := c.vector(1)
	suites := c.vector(2)
	compression := c.vector(1)
	switch {
	case c.bad:
		return hello{}, fmt.Errorf("%w: it ends too early", errHello)
	case version>>8 != 3 || len(session) > 32 || len(suites) == 0 || len(suites)%2 != 0 || !slices.Contains(compression, 0):
		return hello{}, fmt.Errorf("%w: version, session, cipher suites or compression", errHello)
	case len(c.rest) == 0:
		return hello{}, nil // TLS 1.2 without extensions
	}
	extensions := c.vector(2)
	if c.bad || len(c.rest) > 0 {
		return hello{}, fmt.Errorf("%w: its extensions do not end with it", errHello)
	}
	return parseExtensions(extensions)
}

func parseExtensions(b []byte) (hello, error) {
	var h hello
	seen := map[int]bool{}
	for c := (cursor{rest: b}); len(c.rest) > 0; {
		kind, data := c.number(2), c.vector(2)
		if c.bad {
			return hello{}, fmt.Errorf("%w: a broken extension", errHello)
		}
		if seen[kind] {
			return hello{}, fmt.Errorf("%w: extension %d twice", errHello, kind)
		}
		seen[kind] = true
		if !h.extension(kind, data) {
			return hello{}, fmt.Errorf("%w: extension %d", errHello, kind)
		}
	}
	return h, nil
}

// extension reads those that matter; GREASE and the rest pass.
func (h *hello) extension(kind int, data []byte) bool {
	switch kind {
	case extensionServerName:
		return h.readName(data)
	case extensionALPN:
		return h.readProtos(data)
	case extensionECH:
		h.ech = true
	}
	return true
}

// readName reads server_name (RFC 6066, 3): at most one host name, which is no address
// and has no dot at its end; other types of names are left out.
func (h *hello) readName(data []byte) bool {
	c := cursor{rest: data}
	list := cursor{rest: c.vector(2)}
	if c.bad || len(c.rest) > 0 || len(list.rest) == 0 {
		return false
	}
	for len(list.rest) > 0 {
		kind, name := list.number(1), list.vector(2)
		if list.bad || len(name) == 0 {
			return false
		}
		if kind != nameTypeHost {
			continue
		}
		if h.serverName != "" || strings.HasSuffix(string(name), ".") {
			return false
		}
		h.serverName = string(name)
	}
	return true
}

// readProtos reads application_layer_protocol_negotiation (RFC 7301, 3.1).
func (h *hello) readProtos(data []byte) bool {
	c := cursor{rest: data}
	list := cursor{rest: c.vector(2)}
	if c.bad || len(c.rest) > 0 || len(list.rest) == 0 {
		return false
	}
	for len(list.rest) > 0 {
		proto := list.vector(1)
		if list.bad || len(proto) == 0 {
			return false
		}
		h.protos = append(h.protos, string(proto))
	}
	return true
}

// cursor reads TLS' presentation language. Once something was not there, it is bad and
// returns nothing.
type cursor struct {
	rest []byte
	bad  bool
}

func (c *cursor) take(n int) []byte {
	if c.bad || len(c.rest) < n {
		c.bad, c.rest = true, nil
		return nil
	}
	var out []byte
	out, c.rest = c.rest[:n], c.rest[n:]
	return out
}

func (c *cursor) number(size int) int {
	n := 0
	for _, b := range c.take(size) {
		n = n<<8 | int(b)
	}
	return n
}

// vector reads what has its length before it, in size bytes.
func (c *cursor) vector(size int) []byte { return c.take(c.number(size)) }
