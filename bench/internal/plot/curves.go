// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package plot

import (
	"fmt"
	"math"
	"strings"
)

// Curves is a chart of curves over a logarithmic axis.
type Curves struct {
	Title, Subtitle string
	Panels          []CurvePanel
}

// CurvePanel is one pair of axes.
type CurvePanel struct {
	Title  string
	X, Y   string // what the axes show
	Lines  []Line
	Format Format // of Y
	Binary bool   // Y counts bytes: round values are those of KiB, MiB, GiB
}

// Line is one curve.
type Line struct {
	Name  string
	Marks []Mark
}

// Mark is a value at X (which must be positive) with its spread.
type Mark struct{ X, Value, Low, High float64 }

const (
	plotH   = 170
	legendH = 18
	footH   = 38
	yLabelW = 52
)

// SVG draws the chart.
func (cs Curves) SVG() []byte {
	heights := make([]float64, 0, len(cs.Panels))
	for _, p := range cs.Panels {
		heights = append(heights, p.head()+plotH+footH)
	}
	var c canvas
	c.begin(total(heights), cs.Title, cs.Subtitle)
	for i, p := range cs.Panels {
		x, y := place(i, heights)
		p.draw(&c, x, y)
	}
	return c.end()
}

// head is the room for title, name of the y axis and legend.
func (p CurvePanel) head() float64 {
	if len(p.Lines) > 1 {
		return 2*legendH + 14
	}
	return legendH + 14
}

// axes maps values to places.
type axes struct {
	left, right, top, bottom float64
	first, last              float64 // logarithms of the ends of x
	end                      float64 // of y
}

func (a axes) x(v float64) float64 {
	if a.last == a.first {
		return (a.left + a.right) / 2
	}
	return a.left + (a.right-a.left)*(math.Log10(v)-a.first)/(a.last-a.first)
}

func (a axes) y(v float64) float64 { return a.bottom - (a.bottom-a.top)*v/a.end }

func (p CurvePanel) axes(x, y float64, end float64) axes {
	a := axes{left: x + yLabelW, right: x + panelW - 16, top: y + p.head(), bottom: y + p.head() + plotH, end: end, first: math.Inf(1), last: math.Inf(-1)}
	for _, l := range p.Lines {
		for _, m := range l.Marks {
			a.first, a.last = min(a.first, math.Log10(m.X)), max(a.last, math.Log10(m.X))
		}
	}
	if math.IsInf(a.first, 0) {
		a.first, a.last = 0, 1
	}
	return a
}

func (p CurvePanel) draw(c *canvas, x, y float64) {
	top := 0.0
	for _, l := range p.Lines {
		for _, m := range l.Marks {
			top = max(top, m.Value, m.High)
		}
	}
	marks := p.ticks(top * 1.05)
	a := p.axes(x, y, marks[len(marks)-1])
	c.text(x, y, "t", "start", p.Title)
	c.text(x, y+16, "s", "start", p.Y)
	p.legend(c, x, y+16+legendH)
	for _, m := range marks {
		c.line("grid", a.left, a.y(m), a.right, a.y(m))
		c.text(a.left-7, a.y(m)+4, "s", "end", p.Format(m))
	}
	p.bottom(c, a)
	for i, l := range p.Lines {
		l.draw(c, a, i%shades)
	}
}

// ticks are round values of the unit that y is printed in.
func (p CurvePanel) ticks(top float64) []float64 {
	unit := 1.0
	for p.Binary && top >= unit*1024 {
		unit *= 1024
	}
	out := ticks(top / unit)
	for i := range out {
		out[i] *= unit
	}
	return out
}

// bottom draws the logarithmic axis: a tick for each power of ten, and for its end where
// there is room.
func (p CurvePanel) bottom(c *canvas, a axes) {
	c.line("axis", a.left, a.bottom, a.right, a.bottom)
	mark := func(v float64) {
		c.line("axis", a.x(v), a.bottom, a.x(v), a.bottom+4)
		c.text(a.x(v), a.bottom+17, "s", "middle", thousands(v))
	}
	e := math.Ceil(a.first - 1e-9)
	for ; e <= a.last+1e-9; e++ {
		mark(math.Pow(10, e))
	}
	if a.right-a.x(math.Pow(10, e-1)) > 45 {
		mark(math.Pow(10, a.last))
	}
	c.text((a.left+a.right)/2, a.bottom+32, "s", "middle", p.X)
}

func thousands(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// legend names the curves where there are several.
func (p CurvePanel) legend(c *canvas, x, y float64) {
	if len(p.Lines) < 2 {
		return
	}
	for i, l := range p.Lines {
		shade := i % shades
		c.line(fmt.Sprintf("l l%d", shade), x, y-4, x+16, y-4)
		c.dot(fmt.Sprintf("f%d", shade), x+8, y-4)
		c.text(x+21, y, "v", "start", l.Name)
		x += 21 + small*float64(len([]rune(l.Name))) + 16
	}
}

func (l Line) draw(c *canvas, a axes, shade int) {
	var points []string
	for _, m := range l.Marks {
		points = append(points, number(a.x(m.X))+","+number(a.y(m.Value)))
		if m.High > m.Low {
			c.line("w", a.x(m.X), a.y(m.Low), a.x(m.X), a.y(m.High))
		}
	}
	fmt.Fprintf(c, `<polyline class="l l%d" points="%s"/>`+"\n", shade, strings.Join(points, " "))
	for _, m := range l.Marks {
		c.dot(fmt.Sprintf("f%d", shade), a.x(m.X), a.y(m.Value))
	}
}
