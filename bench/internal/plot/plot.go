// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package plot draws bars and curves as SVG: small panels side by side, each with an axis
// of its own that begins at zero. The colours follow the reader's light or dark scheme.
// It is no general plotting library; the two charts are what the benchmarks need.
package plot

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
)

// Sizes in pixels.
const (
	width   = 920
	margin  = 24
	gap     = 36 // between panels
	columns = 2
	header  = 82
	panelW  = (width - 2*margin - gap*(columns-1)) / columns
	small   = 6.7 // mean width of a character of 11 px
)

const style = `<style>
text{font:12px system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;fill:#1f2328}
.h{font-size:17px;font-weight:600}.t{font-size:13px;font-weight:600}.s{font-size:11px;fill:#59636e}.v{font-size:11px}.b{font-weight:600}
.bg{fill:#fff}.grid{stroke:#e3e7eb}.axis{stroke:#8c959f}.cut{stroke:#fff;stroke-width:3}.w{stroke:#1f2328;stroke-width:1.2;opacity:.75}
.peer{fill:#b6bec7}.main{fill:#0b7a88}
.f0{fill:#0b7a88}.f1{fill:#c4570b}.f2{fill:#6639ba}.f3{fill:#59636e}
.l0{stroke:#0b7a88}.l1{stroke:#c4570b}.l2{stroke:#6639ba}.l3{stroke:#59636e}.l{fill:none;stroke-width:2;stroke-linejoin:round}
@media(prefers-color-scheme:dark){
text{fill:#e6edf3}.s{fill:#9198a1}.bg{fill:#0d1117}.grid{stroke:#262c36}.axis{stroke:#656c76}.cut{stroke:#0d1117}.w{stroke:#e6edf3}
.peer{fill:#4a525c}.main{fill:#2aa7b6}
.f0{fill:#39c5d3}.f1{fill:#f0883e}.f2{fill:#b392f0}.f3{fill:#9198a1}
.l0{stroke:#39c5d3}.l1{stroke:#f0883e}.l2{stroke:#b392f0}.l3{stroke:#9198a1}}
</style>`

// shades is how many colours curves have.
const shades = 4

// Format prints a value with its unit.
type Format func(float64) string

// canvas collects SVG elements.
type canvas struct{ strings.Builder }

// begin opens the picture with its background, title and subtitle.
func (c *canvas) begin(height float64, title, subtitle string) {
	fmt.Fprintf(c, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %s" width="%d" height="%s" role="img" aria-label="%s">`+"\n%s\n",
		width, number(height), width, number(height), html.EscapeString(title), style)
	fmt.Fprintf(c, `<rect class="bg" width="%d" height="%s"/>`+"\n", width, number(height))
	c.text(margin, 30, "h", "start", title)
	c.text(margin, 48, "s", "start", subtitle)
}

func (c *canvas) end() []byte {
	c.WriteString("</svg>\n")
	return []byte(c.String())
}

func (c *canvas) text(x, y float64, class, anchor, s string) {
	fmt.Fprintf(c, `<text x="%s" y="%s" class="%s" text-anchor="%s">%s</text>`+"\n", number(x), number(y), class, anchor, html.EscapeString(s))
}

func (c *canvas) line(class string, x1, y1, x2, y2 float64) {
	fmt.Fprintf(c, `<line class="%s" x1="%s" y1="%s" x2="%s" y2="%s"/>`+"\n", class, number(x1), number(y1), number(x2), number(y2))
}

func (c *canvas) rect(class string, x, y, w, h float64) {
	fmt.Fprintf(c, `<rect class="%s" x="%s" y="%s" width="%s" height="%s" rx="1.5"/>`+"\n", class, number(x), number(y), number(w), number(h))
}

func (c *canvas) dot(class string, x, y float64) {
	fmt.Fprintf(c, `<circle class="%s" cx="%s" cy="%s" r="3.2"/>`+"\n", class, number(x), number(y))
}

// number prints a coordinate with a tenth of a pixel.
func number(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

// ticks are up to about five round values from zero to at least top; the last is where
// the axis ends.
func ticks(top float64) []float64 {
	if top <= 0 || math.IsInf(top, 0) || math.IsNaN(top) {
		return []float64{0, 1}
	}
	step := math.Pow(10, math.Floor(math.Log10(top)))
	for _, f := range []float64{0.2, 0.25, 0.5, 1, 2} {
		if top/(step*f) <= 5 {
			step *= f
			break
		}
	}
	n := int(math.Ceil(top/step - 1e-9))
	out := make([]float64, 0, n+1)
	for i := range n + 1 {
		out = append(out, float64(i)*step)
	}
	return out
}

// place is the corner of panel i where all of a row have the height of its tallest.
func place(i int, heights []float64) (x, y float64) {
	y = header
	for row := range i / columns {
		y += rowHeight(heights, row) + gap
	}
	return margin + float64(i%columns)*(panelW+gap), y
}

func rowHeight(heights []float64, row int) (tallest float64) {
	for _, h := range heights[row*columns : min(len(heights), (row+1)*columns)] {
		tallest = max(tallest, h)
	}
	return tallest
}

// total is the height of the picture.
func total(heights []float64) float64 {
	h := float64(header)
	for row := range (len(heights) + columns - 1) / columns {
		h += rowHeight(heights, row) + gap
	}
	return h
}
