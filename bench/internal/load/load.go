// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package load makes requests as fast as they are answered (closed loop) or at a fixed
// rate (open loop), and measures a window of it: requests, bytes, latencies, and the
// CPU time that processes used meanwhile.
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

// Spec is one window of load. Durations are nanoseconds in JSON.
type Spec struct {
	URL   string `json:"url"`
	Proxy string `json:"proxy,omitempty"` // URL of the proxy; empty: direct
	Dial  string `json:"dial,omitempty"`  // direct: the address to connect to
	Roots string `json:"roots"`           // PEM file: what the client trusts
	Token string `json:"token,omitempty"` // direct: the credential that a proxy would put in
	Proto string `json:"proto"`

	Conns   int     `json:"conns"`             // connections
	Streams int     `json:"streams,omitempty"` // requests at a time on each; default 1
	Fresh   bool    `json:"fresh,omitempty"`   // a new connection for every request
	Rate    float64 `json:"rate,omitempty"`    // requests/s sent whatever the answers do; 0: closed loop
	Bytes   int64   `json:"bytes"`             // length that every body must have

	Warmup time.Duration  `json:"warmup"`
	Window time.Duration  `json:"window"`
	PIDs   map[string]int `json:"pids,omitempty"` // processes whose CPU time is read, by name; "load" is added
}

// Result is what a window showed.
type Result struct {
	Elapsed  time.Duration            `json:"elapsed_ns"`
	Requests int64                    `json:"requests"` // answered 200 with the whole body
	Bytes    int64                    `json:"bytes"`    // of bodies, counted as they came
	Errors   int64                    `json:"errors"`   // warm-up included
	Error    string                   `json:"error,omitempty"`
	Dials    int64                    `json:"dials"` // connections made, warm-up included
	Latency  hist.Summary             `json:"latency"`
	CPU      map[string]time.Duration `json:"cpu_ns,omitempty"`
	Machine  host.Usage               `json:"machine"` // over the window
}

// Rate is the requests answered per second.
func (r Result) Rate() float64 { return float64(r.Requests) / r.Elapsed.Seconds() }

func (s Spec) check() error {
	switch {
	case s.Proto != H1 && s.Proto != H2:
		return fmt.Errorf("proto %q is not h1 or h2", s.Proto)
	case s.Proto == H1 && s.Streams > 1:
		return errors.New("HTTP/1.1 has one request at a time on a connection")
	case s.Conns < 1 || s.Window <= 0:
		return fmt.Errorf("%d connections for %s: both must be positive", s.Conns, s.Window)
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
	c, err := newClients(s)
	if err != nil {
		return Result{}, err
	}
	defer c.close()
	ctx, cancel := context.WithCancel(ctx)
	crew := newCrew(c)
	crew.prime(ctx)
	crew.start(ctx)
	res, err := measure(ctx, s, crew)
	crew.stop.Store(true)
	cancel()
	crew.done.Wait()
	res.Latency = crew.latency()
	res.Errors, res.Error, res.Dials = crew.errors(), crew.firstError(), c.dials.Load()
	return res, err
}

// measure waits for the warm-up, and reads clocks and counters at both ends of the window.
func measure(ctx context.Context, s Spec, crew *crew) (Result, error) {
	if err := sleep(ctx, s.Warmup); err != nil {
		return Result{}, err
	}
	a, err := take(s, crew)
	if err != nil {
		return Result{}, err
	}
	crew.measuring.Store(true)
	if err := sleep(ctx, s.Window); err != nil {
		return Result{}, err
	}
	crew.measuring.Store(false)
	b, err := take(s, crew)
	if err != nil {
		return Result{}, err
	}
	return b.since(a), nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// snapshot is every clock and counter at one moment.
type snapshot struct {
	at              time.Time
	requests, bytes int64
	cpu             map[string]time.Duration
	machine         host.Usage
}

func take(s Spec, crew *crew) (snapshot, error) {
	sn := snapshot{cpu: make(map[string]time.Duration, len(s.PIDs))}
	for name, pid := range s.PIDs {
		d, err := host.ProcessCPU(pid)
		if err != nil {
			return sn, fmt.Errorf("%s: %w", name, err)
		}
		sn.cpu[name] = d
	}
	sn.machine, _ = host.MachineUsage()
	sn.requests, sn.bytes = crew.counts()
	sn.at = time.Now()
	return sn, nil
}

func (s snapshot) since(a snapshot) Result {
	r := Result{Elapsed: s.at.Sub(a.at), Requests: s.requests - a.requests, Bytes: s.bytes - a.bytes, CPU: make(map[string]time.Duration, len(s.cpu))}
	for name, d := range s.cpu {
		r.CPU[name] = d - a.cpu[name]
	}
	r.Machine = host.Usage{Busy: s.machine.Busy - a.machine.Busy, Total: s.machine.Total - a.machine.Total}
	return r
}
