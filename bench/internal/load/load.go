// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package load makes requests as fast as they are answered (closed loop) or at a fixed
// rate (open loop), or holds connections without a request, and measures a window of it:
// requests, bytes, latencies, and the CPU time and memory of processes.
package load

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"time"

	"github.com/egret-proxy/egret/bench/internal/hist"
	"github.com/egret-proxy/egret/bench/internal/host"
)

// Protocols, as in Spec.Proto.
const (
	H1 = "h1"
	H2 = "h2"
)

// Kinds of exchanges, as in Spec.Kind.
const (
	HTTP      = ""            // a request and its answer
	GRPC      = "grpc"        // a unary call; what it sends comes back
	Stream    = "grpc-stream" // a call whose message comes back Times times
	WebSocket = "websocket"   // a message and its echo, all on one upgraded connection
)

// Spec is one window of load. Durations are nanoseconds in JSON.
type Spec struct {
	URL   string `json:"url"`
	Proxy string `json:"proxy,omitempty"` // URL of the proxy; empty: none
	Dial  string `json:"dial,omitempty"`  // without a proxy: the address to connect to
	Roots string `json:"roots"`           // PEM file: what the client trusts
	Token string `json:"token,omitempty"` // the credential, where no proxy puts it in
	Proto string `json:"proto"`
	Kind  string `json:"kind,omitempty"`

	Conns   int     `json:"conns"`             // connections
	Streams int     `json:"streams,omitempty"` // requests at a time on each; default 1
	Fresh   bool    `json:"fresh,omitempty"`   // a new connection for every request
	Resume  bool    `json:"resume,omitempty"`  // new connections resume the TLS session of the one before
	Hold    bool    `json:"hold,omitempty"`    // after one request on each, connections are only held
	Tunnel  bool    `json:"tunnel,omitempty"`  // the proxy passes bytes on unread
	Rate    float64 `json:"rate,omitempty"`    // requests/s sent whatever the answers do; 0: closed loop
	Bytes   int64   `json:"bytes"`             // length that every body or message that comes must have
	Upload  int64   `json:"upload,omitempty"`  // length of every body that is sent
	Times   int     `json:"times,omitempty"`   // messages of a Stream

	Settle time.Duration  `json:"settle,omitempty"` // between readings of memory; default: half a second
	Warmup time.Duration  `json:"warmup"`
	Window time.Duration  `json:"window"`
	PIDs   map[string]int `json:"pids,omitempty"` // processes whose CPU time is read with that of their descendants, by name; "load" is added
}

// Result is what a window showed.
type Result struct {
	Elapsed  time.Duration            `json:"elapsed_ns"`
	Requests int64                    `json:"requests"` // answered as they should, whole
	Bytes    int64                    `json:"bytes"`    // of bodies and messages, both ways, counted as they came and went
	Errors   int64                    `json:"errors"`   // warm-up included
	Error    string                   `json:"error,omitempty"`
	Dials    int64                    `json:"dials"`             // connections made, warm-up included
	Resumed  int64                    `json:"resumed,omitempty"` // requests on a connection that resumed a TLS session, warm-up included
	Latency  hist.Summary             `json:"latency"`
	CPU      map[string]time.Duration `json:"cpu_ns,omitempty"`
	Machine  host.Usage               `json:"machine"`          // over the window
	Held     int64                    `json:"held,omitempty"`   // connections between the two readings of Memory
	Memory   map[string]Memory        `json:"memory,omitempty"` // resident, of the processes in PIDs
}

// Memory is what a process and its descendants had in RAM before connections were made
// and after, both when it no longer changed.
type Memory struct {
	Before int64         `json:"before"`
	After  int64         `json:"after"`
	Settle time.Duration `json:"settle_ns"` // how long After took to settle
}

// Rate is the requests answered per second.
func (r Result) Rate() float64 { return float64(r.Requests) / r.Elapsed.Seconds() }

func (s Spec) check() error {
	kind, known := map[string]string{HTTP: s.Proto, GRPC: H2, Stream: H2, WebSocket: H1}[s.Kind]
	switch {
	case s.Proto != H1 && s.Proto != H2:
		return fmt.Errorf("proto %q is not h1 or h2", s.Proto)
	case !known:
		return fmt.Errorf("kind %q is not one of %q, %q, %q or empty", s.Kind, GRPC, Stream, WebSocket)
	case kind != s.Proto:
		return fmt.Errorf("kind %s goes over %s, not %s", s.Kind, kind, s.Proto)
	case s.Proto == H1 && s.Streams > 1:
		return errors.New("HTTP/1.1 has one request at a time on a connection")
	case s.Conns < 1 || s.Window <= 0:
		return fmt.Errorf("%d connections for %s: both must be positive", s.Conns, s.Window)
	case s.Kind == Stream && s.Times < 1:
		return errors.New("a stream needs the number of its messages (times)")
	case (s.Upload > 0 || s.Resume || s.Hold) && s.Kind != HTTP:
		return fmt.Errorf("upload, resume and hold are for plain HTTP, not for kind %s", s.Kind)
	}
	return nil
}

// Run makes the load and measures the window. An error says that nothing could be
// measured; refused or broken requests are counted in the result.
func Run(ctx context.Context, s Spec) (Result, error) {
	s.Streams = max(s.Streams, 1)
	if err := s.check(); err != nil {
		return Result{}, err
	}
	s.PIDs = maps.Clone(s.PIDs)
	if s.PIDs != nil {
		s.PIDs["load"] = os.Getpid()
	}
	d, err := newDoor(s)
	if err != nil {
		return Result{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if s.Hold {
		return hold(ctx, d)
	}
	crew, err := newCrew(d)
	if err != nil {
		return Result{}, err
	}
	defer crew.close()
	crew.prime(ctx)
	crew.start(ctx)
	res, err := measure(ctx, s, crew.counts)
	crew.stop.Store(true)
	cancel()
	crew.done.Wait()
	crew.sum(&res)
	return res, err
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
