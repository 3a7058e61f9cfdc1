// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"log"
	"log/slog"
	"strings"
)

// libraryLog is the log of net/http and httputil, at level debug. They quote what came
// over the wire, which may be a credential that an upstream has sent back: everything
// from the first quotation mark on is left out (MUST C9).
func libraryLog(to *slog.Logger) *log.Logger {
	return log.New(unquoted{to}, "", 0)
}

type unquoted struct{ to *slog.Logger }

// Write implements io.Writer; package log calls it once per message.
func (u unquoted) Write(p []byte) (int, error) {
	text, rest, cut := strings.Cut(strings.TrimSpace(string(p)), `"`)
	if cut && rest != "" {
		text += "…"
	}
	u.to.Debug("net/http", "says", text)
	return len(p), nil
}
