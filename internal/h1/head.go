// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package h1

import (
	"net/http"
	"net/textproto"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// parseHead reads status line and header into resp. Names and values are parts of one
// string.
func parseHead(head []byte, resp *http.Response) error {
	line, rest := cutLine(string(head))
	if err := parseStatus(line, resp); err != nil {
		return err
	}
	h, err := parseFields(rest)
	if err != nil {
		return err
	}
	resp.Header = h
	if p := h["Pragma"]; len(p) > 0 && p[0] == "no-cache" && h["Cache-Control"] == nil {
		h["Cache-Control"] = []string{"no-cache"} // as net/http has it (RFC 9111, 5.4)
	}
	return nil
}

// cutLine cuts at LF, and a CR before it.
func cutLine(s string) (line, rest string) {
	i := strings.IndexByte(s, '\n')
	if i < 0 {
		return s, ""
	}
	line, rest = s[:i], s[i+1:]
	if i > 0 && line[i-1] == '\r' {
		line = line[:i-1]
	}
	return line, rest
}

// parseStatus reads a status line (RFC 9112, 4). The reason may be left out, space included.
func parseStatus(line string, resp *http.Response) error {
	const version = "HTTP/1."
	if len(line) < len("HTTP/1.1 200") || line[:len(version)] != version || line[8] != ' ' ||
		len(line) > 12 && line[12] != ' ' || !httpguts.ValidHeaderFieldValue(line) {
		return ErrStatusLine
	}
	minor, code := line[7], line[9:12]
	if !digit(minor) || code[0] < '1' || code[0] > '9' || !digit(code[1]) || !digit(code[2]) {
		return ErrStatusLine
	}
	resp.Proto, resp.ProtoMajor, resp.ProtoMinor = line[:8], 1, int(minor-'0')
	resp.Status, resp.StatusCode = line[9:], int(code[0]-'0')*100+int(code[1]-'0')*10+int(code[2]-'0')
	return nil
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// maxFields bounds the fields of one header.
const maxFields = 4096

// parseFields reads field lines up to an empty one (RFC 9112, 5). A line that begins with
// a space or a tab (obs-fold), or has one before the colon, is refused: others read
// such lines otherwise.
func parseFields(s string) (http.Header, error) {
	n := strings.Count(s, "\n")
	if n > maxFields {
		return nil, ErrTooLarge
	}
	h, values := make(http.Header, n), make([]string, n)
	for {
		var line string
		if line, s = cutLine(s); line == "" {
			return h, nil
		}
		name, value, ok := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		if !ok || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, ErrHeader
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		if old := h[name]; old != nil {
			h[name] = append(old, value)
			continue
		}
		values[0] = value
		h[name], values = values[:1:1], values[1:]
	}
}
