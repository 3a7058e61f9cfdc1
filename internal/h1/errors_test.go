// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package h1

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/egret-proxy/egret/internal/wireerr"
)

// Errors quote nothing of what a peer sent, and the words for them say what was wrong.
func TestMUST_C9_NothingThatAPeerSentIsQuoted(t *testing.T) {
	const hush, ok = "S3CR-3T-t0ken", "HTTP/1.1 200 OK\r\n"
	for answer, want := range map[string]string{
		"HTTP/1.1 " + hush + " OK\r\n\r\n":                                     "status line",
		hush + "\r\n\r\n":                                                      "status line",
		ok + hush + "\r\n\r\n":                                                 "header line",
		ok + hush + ": a\x00\r\n\r\n":                                          "header line",
		ok + " " + hush + ": a\r\n\r\n":                                        "header line",
		ok + "X: " + strings.Repeat(hush, 40):                                  "too large",
		ok + "Content-Length: " + hush + "\r\n\r\n":                            "Content-Length",
		ok + "Content-Length: 1\r\nContent-Length: " + hush + "\r\n\r\n":       "Content-Length",
		ok + "Transfer-Encoding: " + hush + "\r\n\r\n":                         "Transfer-Encoding",
		ok + "Transfer-Encoding: chunked\r\n\r\n" + hush + "\r\n":              "chunked",
		ok + "Transfer-Encoding: chunked\r\nTrailer: " + hush + "\x01\r\n\r\n": "header line",
		ok + "Transfer-Encoding: chunked\r\nTrailer: (" + hush + "\r\n\r\n":    "trailer",
		ok + "Transfer-Encoding: chunked\r\n\r\n0\r\n" + hush + "\r\n\r\n":     "trailer",
		ok + "Content-Length: 99\r\n\r\n" + hush:                               "middle",
		"":                                                                     "closed",
		strings.Repeat("HTTP/1.1 103 "+hush+"\r\n\r\n", 9):                     "informational",
	} {
		c := NewClient(Options{HeaderBytes: 500, Informational: 5}).New(&tape{in: []byte(answer), piece: 100}, nil, func() {})
		resp, err := trip(t, c, get(t.Context()))
		if err == nil {
			_, err = io.ReadAll(resp.Body)
		}
		if err == nil {
			t.Errorf("%.60q was taken", answer)
			continue
		}
		got := wireerr.Wrap(err)
		if broke := want == "middle" || want == "closed"; wireerr.Malformed(got) == broke {
			t.Errorf("%.60q: malformed %t", answer, !broke)
		}
		if text := fmt.Sprintf("%v %+v %q %v", err, err, err, got); strings.Contains(text, hush) || !strings.Contains(got.Error(), want) {
			t.Errorf("%.60q: %s, want %q", answer, text, want)
		}
	}
}
