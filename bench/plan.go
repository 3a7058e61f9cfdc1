// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/egret-proxy/egret/bench/internal/load"
	"github.com/egret-proxy/egret/bench/internal/report"
	"github.com/egret-proxy/egret/bench/internal/rig"
)

// scenario is one kind of load with what the report says of it.
type scenario struct {
	report.Load
	spec   load.Spec
	rounds int  // at most; 0: as many as the run has
	full   bool // left out of a quick run
}

const (
	large    = 16 << 20 // bytes
	messages = 100      // of a stream
	fastest  = 1000     // requests/s, of the open loops of a full run
	holds    = 3        // rounds of loads that only hold connections, which take long and vary little
)

// plan lists the loads that are measured.
func (o options) plan() ([]scenario, error) {
	only, err := regexp.Compile(o.only)
	if err != nil {
		return nil, err
	}
	out := slices.DeleteFunc(o.scenarios(), func(s scenario) bool { return s.full && !o.full || !only.MatchString(s.Name) })
	if len(out) == 0 {
		return nil, fmt.Errorf("-only %q matches no load; most loads are those of -full", o.only)
	}
	for i := range out {
		s := &out[i]
		s.spec.Warmup, s.spec.Window = o.warmup, o.window
		s.Rate = s.spec.Rate > 0
		if s.Bytes == 0 {
			s.Bytes = s.spec.Bytes
		}
	}
	return out, nil
}

// scenarios are all loads, in the order of the report.
func (o options) scenarios() []scenario {
	return slices.Concat(o.requests(), o.connections(), bodies(), o.streams(), o.tunnels(), o.paced(), o.held())
}

func named(name string, s load.Spec) scenario {
	return scenario{Load: report.Load{Name: name}, spec: s}
}

func (s scenario) inFull() scenario {
	s.full = true
	return s
}

func (s scenario) counting(unit string) scenario {
	s.Unit = unit
	return s
}

func (o options) requests() []scenario {
	return []scenario{
		named("h1, 16 connections", load.Spec{Proto: load.H1, Conns: 16, Bytes: o.body}),
		named("h2, 16 connections", load.Spec{Proto: load.H2, Conns: 16, Bytes: o.body}),
		named("h2, 100 streams on one connection", load.Spec{Proto: load.H2, Conns: 1, Streams: 100, Bytes: o.body}),
	}
}

func (o options) connections() []scenario {
	fresh := load.Spec{Proto: load.H1, Conns: 4, Fresh: true, Bytes: o.body}
	resumed := fresh
	resumed.Resume = true
	return []scenario{
		named("h1, a new connection for each request, 4 at a time", fresh),
		named("h1, a resumed connection for each request, 4 at a time", resumed).inFull(),
	}
}

func bodies() []scenario {
	var out []scenario
	for _, proto := range []string{load.H1, load.H2} {
		out = append(out, named(proto+", downloads of 16 MiB, 2 at a time", load.Spec{Proto: proto, Conns: 2, Bytes: large}))
	}
	for _, proto := range []string{load.H1, load.H2} {
		up := named(proto+", uploads of 16 MiB, 2 at a time", load.Spec{Proto: proto, Conns: 2, Upload: large}).inFull()
		up.Bytes = large
		out = append(out, up)
	}
	return out
}

func (o options) streams() []scenario {
	return []scenario{
		named("gRPC, unary calls, 16 connections", load.Spec{Proto: load.H2, Kind: load.GRPC, Conns: 16, Bytes: o.body}).inFull().counting("call"),
		named(fmt.Sprintf("gRPC, server streams of %d messages, 4 connections", messages),
			load.Spec{Proto: load.H2, Kind: load.Stream, Conns: 4, Bytes: o.body, Times: messages}).inFull().counting("stream"),
		named("WebSocket, echo, 16 connections", load.Spec{Proto: load.H1, Kind: load.WebSocket, Conns: 16, Bytes: o.body}).inFull().counting("message"),
	}
}

func (o options) tunnels() []scenario {
	return []scenario{
		named("tunnel, 16 connections", load.Spec{Proto: load.H1, Conns: 16, Tunnel: true, Bytes: o.body}).inFull(),
		named("tunnel, a new connection for each request, 4 at a time", load.Spec{Proto: load.H1, Conns: 4, Fresh: true, Tunnel: true, Bytes: o.body}).inFull(),
		named("tunnel, downloads of 16 MiB, 2 at a time", load.Spec{Proto: load.H1, Conns: 2, Tunnel: true, Bytes: large}).inFull(),
	}
}

func (o options) paced() []scenario {
	var out []scenario
	for _, rate := range []float64{o.rate, fastest} {
		for _, proto := range []string{load.H1, load.H2} {
			s := named(fmt.Sprintf("%s, %g requests/s", proto, rate), load.Spec{Proto: proto, Conns: 16, Rate: rate, Bytes: o.body})
			s.full = rate != o.rate
			out = append(out, s)
		}
		if o.rate == fastest {
			break
		}
	}
	return out
}

func (o options) held() []scenario {
	var out []scenario
	for _, conns := range []int{1000, 9000} {
		s := named(fmt.Sprintf("idle, %d connections", conns), load.Spec{Proto: load.H1, Conns: conns, Hold: true, Bytes: o.body}).inFull()
		s.Kind, s.rounds = report.Idle, holds
		out = append(out, s)
	}
	return out
}

// lasts is about how long a scenario takes for one target.
func (s scenario) lasts() time.Duration {
	const starting, settling, perConnection = 200 * time.Millisecond, 7 * time.Second, 4 * time.Millisecond
	d := s.spec.Warmup + s.spec.Window + starting
	if s.spec.Hold {
		d += settling + time.Duration(s.spec.Conns)*perConnection
	}
	return d
}

// most is when a window is given up, so that a run ends.
func (s scenario) most() time.Duration { return time.Minute + 3*s.lasts() }

// visit is one window to measure.
type visit struct {
	scenario
	round  int
	target string
}

// visits orders the windows: in each round every load for every target that can carry
// it, one right after the other. Rounds start with different targets, so that none
// always comes first.
func visits(plan []scenario, targets []string, rounds int) []visit {
	var out []visit
	for round := range rounds {
		for _, s := range plan {
			if s.rounds > 0 && round >= s.rounds {
				continue
			}
			able := slices.DeleteFunc(slices.Clone(targets), func(t string) bool { return !rig.Can(t, s.spec) })
			for i := range able {
				out = append(out, visit{s, round, able[(i+round)%len(able)]})
			}
		}
	}
	return out
}
