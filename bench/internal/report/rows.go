// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"slices"

	"github.com/egret-proxy/egret/bench/internal/stats"
)

// Row is one thing that a report says of egret: all its values, and for each peer the
// ratios of the same rounds.
type Row struct {
	Name    string // load, figure, curve or step
	Measure string
	Unit    Unit
	Higher  bool // is better
	Values  []float64
	Ratios  map[string][]float64
}

// Rows are all that the report says of egret, in its order, without what is not known.
func (r *Report) Rows() []Row {
	var out []Row
	for _, l := range r.Loads {
		for _, measure := range l.measures() {
			row := r.row(l.Name, measure)
			row.Name, row.Unit, row.Higher = l.Name, Nanoseconds, measure == Speed
			if row.Higher {
				row.Unit = l.speedUnit()
			}
			out = append(out, row)
		}
	}
	_, figures := r.figureRows()
	for _, f := range figures {
		row := r.row(f.Load, f.Name)
		row.Name, row.Measure, row.Unit, row.Higher = f.title(), "value", f.Unit, f.Higher
		out = append(out, row)
	}
	out = append(out, r.curveRows()...)
	for _, s := range r.Steps {
		out = append(out, Row{Name: s.title(), Measure: "step", Unit: Nanoseconds, Values: s.Nanoseconds})
	}
	return slices.DeleteFunc(out, func(row Row) bool { return len(row.Values) == 0 })
}

func (l Load) measures() []string {
	switch l.kind() {
	case Requests, Bytes:
		return []string{CPU, Speed}
	case Paced:
		return []string{CPU, P50, P99}
	}
	return nil
}

func (l Load) speedUnit() Unit {
	if l.kind() == Bytes {
		return Octets
	}
	return Count
}

func (r *Report) row(loadName, measure string) Row {
	row := Row{Measure: measure, Ratios: map[string][]float64{}}
	own := r.Series(loadName, Egret, measure)
	row.Values = slices.DeleteFunc(slices.Clone(own), func(v float64) bool { return v == 0 })
	for _, peer := range r.peers() {
		if ratios := stats.Ratios(own, r.Series(loadName, peer, measure)); len(ratios) > 0 {
			row.Ratios[peer] = ratios
		}
	}
	return row
}

// curveRows has a row for each place of each curve.
func (r *Report) curveRows() []Row {
	var out []Row
	for _, c := range r.Curves {
		for _, x := range c.Xs() {
			out = append(out, Row{Name: c.Panel + ", " + c.Name + ", " + countText(x), Measure: "growth", Unit: c.Unit, Values: c.rounds(x)})
		}
	}
	return out
}

func (s Step) title() string {
	if s.Case == "" {
		return s.Name
	}
	return s.Name + ", " + s.Case
}
