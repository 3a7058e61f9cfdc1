// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package plot

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func plain(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }

// elements parses the SVG and returns its elements by class, and its texts.
func elements(t *testing.T, svg []byte) (classes map[string][]map[string]string, texts []string) {
	t.Helper()
	classes = map[string][]map[string]string{}
	for d := xml.NewDecoder(strings.NewReader(string(svg))); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return classes, texts
		}
		if err != nil {
			t.Fatalf("no XML: %v\n%s", err, svg)
		}
		switch e := token.(type) {
		case xml.StartElement:
			attributes := map[string]string{}
			for _, a := range e.Attr {
				if strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") {
					t.Errorf("<%s> has %s=%q", e.Name.Local, a.Name.Local, a.Value)
				}
				attributes[a.Name.Local] = a.Value
			}
			classes[attributes["class"]] = append(classes[attributes["class"]], attributes)
		case xml.CharData:
			texts = append(texts, string(e))
		}
	}
}

func floatOf(t *testing.T, s string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestBars(t *testing.T) {
	svg := Bars{Title: "a < b & c", Panels: []BarPanel{{Title: "one", Format: plain, Bars: []Bar{
		{Label: "peer", Value: 50, Low: 40, High: 60},
		{Label: "slow", Value: 1e6},
		{Label: "egret", Value: 100, Main: true},
	}}}}.SVG()
	classes, texts := elements(t, svg)
	peers, main := classes["peer"], classes["main"]
	if len(peers) != 2 || len(main) != 1 {
		t.Fatalf("%d bars of peers and %d of ours", len(peers), len(main))
	}
	half, whole := floatOf(t, peers[0]["width"]), floatOf(t, main[0]["width"])
	if math.Abs(half/whole-0.5) > 0.01 {
		t.Errorf("bars of 50 and 100 are %g and %g wide", half, whole)
	}
	if cut := floatOf(t, peers[1]["width"]); cut < whole || cut > width || len(classes["cut"]) != 2 {
		t.Errorf("the long bar is %g wide with %d marks of its cut", cut, len(classes["cut"]))
	}
	if len(classes["w"]) != 3 {
		t.Errorf("%d lines of whiskers, want 3", len(classes["w"]))
	}
	for _, want := range []string{"a < b & c", "one", "peer", "1e+06", "100"} {
		if !strings.Contains(strings.Join(texts, "\n"), want) {
			t.Errorf("no text %q", want)
		}
	}
}

func TestCurves(t *testing.T) {
	svg := Curves{Title: "growth", Panels: []CurvePanel{{Title: "p", X: "connections", Y: "CPU", Format: plain, Lines: []Line{
		{Name: "a", Marks: []Mark{{X: 1, Value: 10}, {X: 100, Value: 10, Low: 8, High: 12}}},
		{Name: "b", Marks: []Mark{{X: 10, Value: 5}}},
	}}}}.SVG()
	classes, texts := elements(t, svg)
	a, b := classes["f0"], classes["f1"]
	if len(a) != 3 || len(b) != 2 { // with those of the legend
		t.Fatalf("%d and %d marks", len(a), len(b))
	}
	left, middle, right := floatOf(t, a[1]["cx"]), floatOf(t, b[1]["cx"]), floatOf(t, a[2]["cx"])
	if math.Abs((left+right)/2-middle) > 0.2 || a[1]["cy"] != a[2]["cy"] {
		t.Errorf("x of 1, 10 and 100 is %g, %g and %g", left, middle, right)
	}
	if !strings.Contains(strings.Join(texts, "\n"), "connections") {
		t.Error("the axis has no name")
	}
}

// TestNothingToDraw: what a run lacks makes an empty chart, no broken one.
func TestNothingToDraw(t *testing.T) {
	elements(t, Bars{Panels: []BarPanel{{Format: plain}, {Format: plain, Bars: []Bar{{Label: "zero", Main: true}}}}}.SVG())
	elements(t, Curves{Panels: []CurvePanel{{Format: plain}, {Format: plain, Lines: []Line{{Marks: []Mark{{X: 5, Value: 0}}}}}}}.SVG())
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		top  float64
		want []float64
	}{
		{0, []float64{0, 1}},
		{math.NaN(), []float64{0, 1}},
		{100, []float64{0, 20, 40, 60, 80, 100}},
		{101, []float64{0, 25, 50, 75, 100, 125}},
		{7, []float64{0, 2, 4, 6, 8}},
		{1, []float64{0, .2, .4, .6, .8, 1}},
	} {
		got := ticks(c.top)
		for i := range got {
			got[i] = math.Round(got[i]*1e9) / 1e9
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%g: %s", c.top, d)
		}
	}
}

func TestBinaryTicks(t *testing.T) {
	const mib = 1 << 20
	if d := cmp.Diff([]float64{0, 200 * mib, 400 * mib, 600 * mib, 800 * mib}, CurvePanel{Binary: true}.ticks(650*mib)); d != "" {
		t.Error(d)
	}
}
