// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// TestSmallAnswersEndWithTheirBody: over HTTP/2 the end of the stream has no frame of its own
// where the upstream has sent it with the body.
func TestSmallAnswersEndWithTheirBody(t *testing.T) {
	if *standardForwarder {
		t.Skip("the library ends the stream behind the body")
	}
	w := newWorld(t, withHandler(quietHandler))
	for range 50 { // the end may be late on a busy machine
		tc := tls.Client(w.tunnelTo("sidecar", otherHost+":443"), &tls.Config{RootCAs: w.roots(), ServerName: otherHost, NextProtos: []string{"h2"}})
		_, _ = io.WriteString(tc, http2.ClientPreface)
		f := http2.NewFramer(tc, tc)
		_ = f.WriteSettings()
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, EndHeaders: true,
			BlockFragment: h2Block(":method", "GET", ":scheme", "https", ":path", "/x", ":authority", otherHost)})
		if firstData(t, f).StreamEnded() {
			return
		}
	}
	t.Error("the end always came in a frame of its own")
}

func firstData(t *testing.T, f *http2.Framer) *http2.DataFrame {
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if d, ok := frame.(*http2.DataFrame); ok {
			return d
		}
	}
}

// TestALateEndHoldsNothingBack: the body reaches the client though its stream goes on.
func TestALateEndHoldsNothingBack(t *testing.T) {
	end := make(chan struct{})
	w := newWorld(t, withHandler(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Length", "2")
		_, _ = io.WriteString(rw, "ok")
		_ = http.NewResponseController(rw).Flush()
		<-end
	}))
	defer close(end)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	resp, err := w.client("sidecar").Do(request(t, "GET", "https://"+otherHost+"/", nil).WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := make([]byte, 2); resp.ProtoMajor != 2 {
		t.Error(resp.Proto)
	} else if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != "ok" {
		t.Errorf("%q, %v", got, err)
	}
}
