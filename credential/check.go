// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package credential

import "net/http"

// Checker is implemented by credentials and signers that look at the caller's own
// request before anything is removed from it or sent: a signature that is replaced later
// tells what the caller meant. Safe for concurrent use.
type Checker interface {
	// Check reads r, whose host is the canonical one given, and changes nothing.
	// ErrCallerSignature refuses it as the caller's fault.
	Check(r *http.Request, host string) error
}

// Check implements Checker: it asks the signer that will sign for this host.
func (l *Live) Check(r *http.Request, host string) error {
	for i := range l.inject {
		in := &l.inject[i]
		if in.signer == nil || !in.matches(host) {
			continue
		}
		if c, ok := in.signer.(Checker); ok {
			return c.Check(r, host)
		}
	}
	return nil
}
