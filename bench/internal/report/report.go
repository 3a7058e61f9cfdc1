// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package report turns measurements into what people read: ratios first, with their
// spread, and no figure that the spread makes meaningless.
package report

import (
	"time"

	"github.com/egret-proxy/egret/bench/internal/host"
	"github.com/egret-proxy/egret/bench/internal/load"
	"github.com/egret-proxy/egret/bench/internal/origin"
)

// Targets that a report knows how to treat: what egret shows is divided by what each
// other shows, and Direct is what latency is added to. All others are peers, but for those
// called egret-SOMETHING, which are egret in another setting.
const (
	Direct = "direct"
	Egret  = "egret"
)

// Report is a run. Its JSON form holds every window, so that other questions can be
// asked of it later. Parts that a run does not measure are empty; Merge puts the parts
// of several together.
type Report struct {
	Name     string            `json:"name,omitempty"` // of the files; default: the date
	Date     time.Time         `json:"date"`
	Command  string            `json:"command"`
	Machine  host.Machine      `json:"machine"`
	LoadEnd  string            `json:"load_end,omitempty"` // load averages at the end
	Versions map[string]string `json:"versions"`
	Grants   int               `json:"grants,omitempty"`
	Rounds   int               `json:"rounds"`
	Window   time.Duration     `json:"window_ns,omitempty"`
	Targets  []Target          `json:"targets,omitempty"` // in the order of the tables; default: as they come in Windows
	Loads    []Load            `json:"loads,omitempty"`
	Windows  []Window          `json:"windows,omitempty"`
	Figures  []Figure          `json:"figures,omitempty"`
	Steps    []Step            `json:"steps,omitempty"`
	Curves   []Curve           `json:"curves,omitempty"`
	Goals    []Goal            `json:"goals,omitempty"` // what the run was held to
}

// Target is one program that the load went through.
type Target struct {
	Name    string   `json:"name"`
	Setting string   `json:"setting,omitempty"` // in words: what was set, what it does and does not do
	Configs []Config `json:"configs,omitempty"`
}

// Config is a file that a target was started with.
type Config struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// Kind is what a load shows.
type Kind string

// Kinds of loads.
const (
	Requests Kind = "requests" // as fast as they are answered: CPU for each, and requests/s
	Bytes    Kind = "bytes"    // large bodies: CPU for as many bytes as one has, and bytes/s
	Paced    Kind = "paced"    // at a fixed rate: latency
	Idle     Kind = "idle"     // nothing is sent; what it shows are Figures
)

// Load is one kind of traffic.
type Load struct {
	Name  string `json:"name"`
	Kind  Kind   `json:"kind,omitempty"` // default: Paced with Rate, Bytes for bodies of 1 MiB or more, else Requests
	Bytes int64  `json:"bytes"`          // of every body
	Rate  bool   `json:"rate,omitempty"` // open loop: latency is what it shows, not requests/s
	Unit  string `json:"unit,omitempty"` // what is counted as a request, such as "message", where it is none
}

// Window is one measurement of one target.
type Window struct {
	Round  int           `json:"round"`
	Load   string        `json:"load"`
	Target string        `json:"target"`
	Result load.Result   `json:"result"`
	Origin origin.Counts `json:"origin"` // what arrived, warm-up included
}

// Unit is what a value counts; it decides how it is printed.
type Unit string

// Units of figures and curves.
const (
	Nanoseconds Unit = "ns"
	Octets      Unit = "B"
	Count       Unit = "count"
)

// Figure is one value that is no window of load, such as memory for each connection.
// The same Name, Load and Target in several rounds make one row of the table.
type Figure struct {
	Name   string  `json:"name"`
	Load   string  `json:"load,omitempty"`
	Target string  `json:"target"`
	Round  int     `json:"round"`
	Value  float64 `json:"value"`
	Unit   Unit    `json:"unit"`
	Higher bool    `json:"higher_is_better,omitempty"`
}

// Step is what one part of a request costs by itself, from Go benchmarks.
type Step struct {
	Name        string    `json:"name"` // as the record names it, such as t_policy
	Case        string    `json:"case,omitempty"`
	Benchmark   string    `json:"benchmark"`
	Nanoseconds []float64 `json:"ns"` // for each run
	Bytes       float64   `json:"bytes"`
	Allocations float64   `json:"allocations"`
}

// Curve is how one figure changes while a number grows. Points of one X and several
// rounds are one mark of it.
type Curve struct {
	Panel  string  `json:"panel"` // curves of one panel are drawn together
	Name   string  `json:"name"`
	X      string  `json:"x"` // what grows
	Y      string  `json:"y"` // what is measured
	Unit   Unit    `json:"unit"`
	Flat   bool    `json:"flat"`          // it should not grow
	Why    string  `json:"why,omitempty"` // what makes it grow, or why it is bounded where it is
	Points []Point `json:"points"`
}

// Point is one measurement of a curve.
type Point struct {
	X     float64 `json:"x"`
	Round int     `json:"round"`
	Value float64 `json:"value"`
}
