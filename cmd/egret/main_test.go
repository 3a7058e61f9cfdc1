// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"testing"
	"time"
)

// What net/http itself prints of a peer's bytes must go nowhere.
func TestMUST_C9_UnsolicitedAnswersAreNotPrinted(t *testing.T) {
	var std bytes.Buffer
	before := log.Writer()
	defer log.SetOutput(before) //nolint:forbidigo // the standard log is what is tested
	log.SetOutput(&std)         //nolint:forbidigo // the same
	silence()
	here, there := net.Pipe()
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return here, nil }}
	defer tr.CloseIdleConnections()
	go func() {
		_, _ = there.Read(make([]byte, 4096))
		_, _ = fmt.Fprint(there, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		time.Sleep(50 * time.Millisecond) // the connection is idle by then
		_, _ = fmt.Fprint(there, "hush")
		_ = there.Close()
	}()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://peer.example/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	time.Sleep(200 * time.Millisecond)
	if log.Writer() != io.Discard || std.Len() > 0 {
		t.Errorf("printed: %s", std.String())
	}
}
