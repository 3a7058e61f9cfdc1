// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/egret-proxy/egret/bench/internal/stats"
)

// Goal is a bound that egret is held to: of a ratio to a peer, of a ratio to another load
// of its own, or of the figure itself.
type Goal struct {
	Load        string  `json:"load,omitempty"`    // empty for figures that belong to none
	Measure     string  `json:"measure"`           // CPU, Speed, P50 … or the name of a Figure
	Against     string  `json:"against,omitempty"` // a peer: the measure is divided by its
	AgainstLoad string  `json:"against_load,omitempty"`
	Most        float64 `json:"most"` // of the ratio, or of the figure in its unit
	Unit        Unit    `json:"unit,omitempty"`
}

// Verdict of a Goal.
type Verdict string

// Verdicts. One that is close was decided by the median, with the bound between the
// quartiles.
const (
	Met         Verdict = "met"
	NotMet      Verdict = "**not met**"
	Unclear     Verdict = "noisy"
	NotMeasured Verdict = "not measured"
)

// ParseGoals reads the JSON list of goals. Unknown fields, goals without a bound and
// bounds of figures without a unit are refused.
func ParseGoals(js []byte) ([]Goal, error) {
	d := json.NewDecoder(bytes.NewReader(js))
	d.DisallowUnknownFields()
	var out []Goal
	if err := d.Decode(&out); err != nil {
		return nil, fmt.Errorf("goals: %w", err)
	}
	for i, g := range out {
		switch {
		case g.Measure == "":
			return nil, fmt.Errorf("goals[%d]: measure is empty; name what is measured, such as %q", i, CPU)
		case g.Most <= 0:
			return nil, fmt.Errorf("goals[%d]: most is %g, must be positive", i, g.Most)
		case g.ratio() != (g.Unit == ""):
			return nil, fmt.Errorf("goals[%d]: unit is %q; a figure has one, and a ratio none", i, g.Unit)
		}
	}
	return out, nil
}

func (g Goal) ratio() bool { return g.Against != "" || g.AgainstLoad != "" }

// spread is what a report says of the goal.
func (r *Report) goal(g Goal) stats.Spread {
	switch {
	case g.Against != "":
		return r.ratio(g.Load, g.Against, g.Measure)
	case g.AgainstLoad != "":
		return stats.Of(stats.Ratios(r.Series(g.Load, Egret, g.Measure), r.Series(g.AgainstLoad, Egret, g.Measure)))
	}
	return r.spread(g.Load, Egret, g.Measure)
}

// Verdict judges one goal. A figure that is the same in all rounds, as the size of a file
// is, needs no rounds.
func (r *Report) Verdict(g Goal) Verdict {
	s := r.goal(g)
	switch {
	case s.N == 0:
		return NotMeasured
	case g.ratio() && s.Noisy(tolerance(g.Measure)), !g.ratio() && s.N > 1 && s.Noisy(noisyDifference):
		return Unclear
	case s.Median <= g.Most:
		return Met
	}
	return NotMet
}

func (r *Report) goalTable(b *strings.Builder) {
	if len(r.Goals) == 0 {
		return
	}
	count := map[Verdict]int{}
	var rows strings.Builder
	var missing []string
	for _, g := range r.Goals {
		v, s := r.Verdict(g), r.goal(g)
		if count[v]++; v == NotMeasured {
			missing = append(missing, g.what())
			continue
		}
		fmt.Fprintf(&rows, "| %s | ≤ %s | %s | %s%s |\n", g.what(), g.text(g.Most), g.measured(s, v), v, nearly(s, g.Most, v))
	}
	fmt.Fprintf(b, "## Goals\n\n%d met, %d not met, %d noisy. Median with quartiles.\n\n", count[Met], count[NotMet], count[Unclear])
	if rows.Len() > 0 {
		table(b, "what", "goal", "measured", "")
		b.WriteString(rows.String() + "\n")
	}
	if len(missing) > 0 {
		fmt.Fprintf(b, "Not measured in this run: %s.\n\n", strings.Join(missing, "; "))
	}
}

// what names the goal in words.
func (g Goal) what() string {
	name := measureText(g.Measure)
	if g.Load != "" {
		name += ", " + g.Load
	}
	switch {
	case g.Against != "":
		return name + ": egret ÷ " + g.Against
	case g.AgainstLoad != "":
		return name + ": ÷ " + g.AgainstLoad
	}
	return name
}

func (g Goal) text(v float64) string {
	if g.ratio() {
		return fmt.Sprintf("%.2f", v)
	}
	return valueText(v, g.Unit)
}

func (g Goal) measured(s stats.Spread, v Verdict) string {
	if g.ratio() && v == Unclear {
		return noisy
	}
	return fmt.Sprintf("%s (%s–%s)", g.text(s.Median), g.text(s.Q1), g.text(s.Q3))
}

// nearly marks a verdict that another run could turn over.
func nearly(s stats.Spread, most float64, v Verdict) string {
	if (v == Met || v == NotMet) && s.Q1 <= most && most < s.Q3 {
		return ", close"
	}
	return ""
}

func measureText(measure string) string {
	switch measure {
	case CPU:
		return "CPU"
	case P50, P99:
		return "latency " + measure
	case AddedP50, AddedP99:
		return "latency " + measure
	}
	return measure
}
