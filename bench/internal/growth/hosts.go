// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package growth

import (
	"context"

	"github.com/egret-proxy/egret/bench/internal/report"
)

const (
	fewLeaves = 16 // the least that egret can be told to keep
	visitors  = 4
)

// destinations: a new connection for each request, to more and more hosts in turn. One
// egret keeps the leaf certificates of all, another one of a few, so that it signs one
// for each connection. Upstream connections to all hosts are open already.
func destinations(ctx context.Context, o Options, w *world, rep *report.Report) error {
	numbers := o.numbers(1, 100, 1000, 10000)
	hosts := numbers[len(numbers)-1]
	d := w.documents(hosts)
	d.workload(0)
	for first := 0; first < hosts; first += perHost {
		d.grant(0, 0, first)
	}
	token, err := w.token(0)
	if err != nil {
		return err
	}
	hit := cpuCurve("destinations", "leaf from the cache", "hosts")
	miss := cpuCurve("destinations", "leaf to be signed", "hosts")
	first := cpuCurve("destinations", "first visit of a host", "hosts")
	hit.Y = "CPU of egret for each connection with one request"
	hit.Why = "each host has its own upstream connection, so that more of them are used in turn"
	miss.Why = "a leaf is signed for each connection, which limits.leaves avoids for as many hosts as it says"
	first.Why = "leaf, name, upstream connection and its TLS handshake, once for each host; the points are those of all hosts up to there"
	var cells []cell
	for round, c := range []struct {
		name   string
		leaves int
		curve  *report.Curve
	}{{"hit", 0, hit}, {"miss", fewLeaves, miss}} {
		n, err := w.start(ctx, setting{name: c.name, policies: d.texts(), leaves: c.leaves})
		if err != nil {
			return err
		}
		if err := w.visitAll(ctx, n, numbers, first, visit{token: token, round: round}); err != nil {
			return err
		}
		o.say("destinations: %d hosts were visited", hosts)
		for _, number := range numbers {
			if c.leaves == 0 || number > c.leaves {
				cells = append(cells, cell{c.curve, float64(number), n.program.PID(), w.visits(n, number, token)})
			}
		}
	}
	err = o.sweep(ctx, cells)
	add(rep, hit, miss, first)
	return err
}

// visit is one connection with one request.
func (w *world) visit(ctx context.Context, n *node, i int, token string) error {
	c, err := w.dial(ctx, n.address, hostName(i), token)
	if err != nil {
		return err
	}
	defer c.close()
	return c.get()
}

// visits are workers that go round the hosts, each its own part.
func (w *world) visits(n *node, hosts int, token string) []worker {
	out := make([]worker, 0, visitors)
	for i := range visitors {
		next := i % hosts
		out = append(out, func(ctx context.Context) error {
			at := next
			if next += visitors; next >= hosts {
				next = i % hosts
			}
			return w.visit(ctx, n, at, token)
		})
	}
	return out
}

// visit is how hosts are visited for the first time.
type visit struct {
	token string
	round int
}

// visitAll visits every host once and notes what that cost for each of the numbers.
func (w *world) visitAll(ctx context.Context, n *node, numbers []int, curve *report.Curve, v visit) error {
	done := 0
	for _, number := range numbers {
		spent, err := cpuOf(n.program.PID(), func() error {
			return parallel(ctx, number-done, func(ctx context.Context, i int) error { return w.visit(ctx, n, done+i, v.token) })
		})
		if err != nil {
			return err
		}
		curve.Points = append(curve.Points, report.Point{X: float64(number), Round: v.round, Value: float64(spent) / float64(number-done)})
		done = number
	}
	return nil
}
