// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
)

// TLS alerts that say "I do not trust your certificate" (RFC 8446, 6.2).
const (
	alertBadCertificate     = 42
	alertCertificateUnknown = 46
	alertUnknownCA          = 48
	alertNoALPN             = 120
)

// classifyClient says why a client's handshake failed.
func classifyClient(err error) *refusal {
	var ref *refusal
	if errors.As(err, &ref) {
		return ref
	}
	switch remoteAlert(err) {
	case alertBadCertificate, alertCertificateUnknown, alertUnknownCA:
		return refuse(reasonClientTrust, err)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return refuse(reasonHandshake, err)
	case strings.Contains(err.Error(), "unsupported application protocols"): // crypto/tls has no value for it
		return refuse(reasonNoCommonProto, err)
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), strings.Contains(err.Error(), "connection reset"):
		return refuse(reasonClientTLS, fmt.Errorf("the client closed during the handshake, as clients do that do not trust the certificate: %w", err))
	}
	return refuse(reasonClientTLS, err)
}

// remoteAlert returns the TLS alert that the peer sent, or 0. crypto/tls reports it as
// an unexported integer type inside a net.OpError.
func remoteAlert(err error) uint8 {
	var inClear *alertError
	if errors.As(err, &inClear) {
		return inClear.alert
	}
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" {
		return 0
	}
	if v := reflect.ValueOf(op.Err); v.Kind() == reflect.Uint8 {
		return uint8(v.Uint())
	}
	return 0
}

// lastBytes keeps the end of what a client has sent, enough for a TLS record that holds an
// alert. It is for the one goroutine that reads.
type lastBytes [7]byte

// keep takes what was read.
func (l *lastBytes) keep(p []byte) {
	if len(p) >= len(l) {
		copy(l[:], p[len(p)-len(l):])
		return
	}
	copy(l[:], l[len(p):])
	copy(l[len(l)-len(p):], p)
}

// alert returns the alert that the client sent last in the clear, or 0: a record of type
// alert and of two bytes, a level and the description (RFC 8446, 5.1 and 6).
func (l *lastBytes) alert() uint8 {
	if [5]byte(l[:5]) != [5]byte{21, 3, 3, 0, 2} || l[5] != 1 && l[5] != 2 {
		return 0
	}
	return l[6]
}

// alertError is an alert that crypto/tls did not recognise.
type alertError struct {
	alert uint8
	err   error
}

func (e *alertError) Error() string {
	return fmt.Sprintf("the client sent alert %d in the clear (%s)", e.alert, e.err)
}

func (e *alertError) Unwrap() error { return e.err }

// refine finds the alert behind a handshake's error. A client of OpenSSL 3 (curl, Python)
// that refuses the certificate in TLS 1.3 has not switched its writing keys yet and sends
// its alert in the clear. crypto/tls reads with the handshake's keys by then, and takes it
// for a record that does not decrypt: "bad record MAC". What came in the clear may have
// been put in by somebody on the way, and so decides nothing but what the record says.
func (l *lastBytes) refine(err error) error {
	if a := l.alert(); a != 0 && remoteAlert(err) == 0 && strings.Contains(err.Error(), "bad record MAC") { // crypto/tls has no value for it
		return &alertError{a, err}
	}
	return err
}
