// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package plot

import (
	"slices"
)

// Bars is a chart of horizontal bars.
type Bars struct {
	Title, Subtitle string
	Panels          []BarPanel
}

// BarPanel is one group of bars that are compared with each other.
type BarPanel struct {
	Title  string
	Bars   []Bar
	Format Format
}

// Bar is a value with the spread that its whisker shows.
type Bar struct {
	Label            string
	Value, Low, High float64
	Main             bool // the one that the others are compared with
}

const (
	barH   = 15
	pitch  = 22
	titleH = 12
	axisH  = 22
	valueW = 96 // room for the value behind the longest bar
	// cutAt is how many times as long as the main bar another may be before it is cut, so
	// that one slow peer does not make all others unreadable.
	cutAt = 4
)

// SVG draws the chart.
func (b Bars) SVG() []byte {
	heights := make([]float64, 0, len(b.Panels))
	for _, p := range b.Panels {
		heights = append(heights, titleH+float64(len(p.Bars))*pitch+axisH)
	}
	var c canvas
	c.begin(total(heights), b.Title, b.Subtitle)
	for i, p := range b.Panels {
		x, y := place(i, heights)
		p.draw(&c, x, y)
	}
	return c.end()
}

// top is the largest value that the axis shows; longer bars are cut.
func (p BarPanel) top() float64 {
	main, longest := 0.0, 0.0
	for _, b := range p.Bars {
		if longest = max(longest, b.Value, b.High); b.Main {
			main = b.Value
		}
	}
	if main <= 0 {
		return longest
	}
	shown := 0.0
	for _, b := range p.Bars {
		if b.Value <= cutAt*main {
			shown = max(shown, b.Value, min(b.High, cutAt*main))
		}
	}
	return shown
}

func (p BarPanel) draw(c *canvas, x, y float64) {
	c.text(x, y, "t", "start", p.Title)
	left := x + p.labelWidth()
	right := x + panelW - valueW
	marks := ticks(p.top())
	end := marks[len(marks)-1]
	scale := func(v float64) float64 { return left + (right-left)*min(v, end)/end }
	y += titleH
	bottom := y + float64(len(p.Bars))*pitch
	for _, m := range marks {
		c.line("grid", scale(m), y, scale(m), bottom)
		c.text(scale(m), bottom+14, "s", "middle", p.Format(m))
	}
	for i, b := range p.Bars {
		b.draw(c, y+float64(i)*pitch+(pitch-barH)/2, scale, b.Value > end)
		c.text(left-8, y+float64(i)*pitch+15, b.class("v"), "end", b.Label)
		c.text(scale(max(b.Value, b.whisker(end)))+7, y+float64(i)*pitch+15, b.class("v"), "start", p.Format(b.Value))
	}
	c.line("axis", left, y, left, bottom)
}

func (p BarPanel) labelWidth() float64 {
	longest := slices.MaxFunc(append(slices.Clone(p.Bars), Bar{}), func(x, y Bar) int { return len(x.Label) - len(y.Label) })
	return 10 + small*float64(len([]rune(longest.Label)))
}

func (b Bar) class(base string) string {
	if b.Main {
		return base + " b"
	}
	return base
}

// whisker is where the spread ends on the axis, 0 where there is none.
func (b Bar) whisker(end float64) float64 {
	if b.High <= b.Low {
		return 0
	}
	return min(b.High, end)
}

func (b Bar) draw(c *canvas, y float64, scale func(float64) float64, cut bool) {
	class := "peer"
	if b.Main {
		class = "main"
	}
	from, to := scale(0), scale(b.Value)
	c.rect(class, from, y, max(to-from, 1), barH)
	if cut {
		at := to - 16
		c.line("cut", at-3, y+barH+2, at+3, y-2)
		c.line("cut", at+5, y+barH+2, at+11, y-2)
		return
	}
	if b.High > b.Low && scale(b.High) > scale(b.Low)+2 {
		mid := y + barH/2.0
		c.line("w", scale(b.Low), mid, scale(b.High), mid)
		c.line("w", scale(b.Low), mid-3, scale(b.Low), mid+3)
		c.line("w", scale(b.High), mid-3, scale(b.High), mid+3)
	}
}
