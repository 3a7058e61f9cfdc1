// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package growth

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/egret-proxy/egret/bench/internal/report"
)

const (
	fewLeaves = 16 // the least that egret can be told to keep
	visitors  = 4
	// signed is how many leaves are asked for in a second; egret signs at most 100, and
	// refuses more.
	signed = 90
)

// destinations: a new connection for each request, to more and more hosts in turn. One
// egret keeps the leaf certificates of all; another keeps a few, so that it signs one for
// each connection. Upstream connections to all hosts are open already.
func destinations(ctx context.Context, o Options, w *world, rep *report.Report) error {
	numbers := o.numbers(1, 100, 1000, 10000)
	s := streets{o: o, w: w, documents: w.streets(numbers[len(numbers)-1])}
	var err error
	if s.token, err = w.token(0); err != nil {
		return err
	}
	hit, miss, first := cpuCurve("destinations", "leaf from the cache", "hosts"), cpuCurve("destinations", "leaf to be signed", "hosts"), cpuCurve("destinations", "first visit of a host", "hosts")
	hit.Y, first.Flat = "CPU of egret for each connection with one request", false
	hit.Why = "each host has its own upstream connection, so that more of them are used in turn; each window comes after one visit of every host, because a connection that is idle for 90 s is closed"
	miss.Why = fmt.Sprintf("a leaf is signed for each connection, which limits.leaves avoids for as many hosts as it says; at %d a second (egret signs at most 100), so that part of the difference is that of an idle machine", signed)
	first.Why = fmt.Sprintf("leaf, name, upstream connection and its TLS handshake, once for each host, at %d a second; a point is the mean of all hosts since the one before", signed)
	cells, err := s.open(ctx, numbers, 0, hit, first)
	if err != nil {
		return err
	}
	few := numbers[:min(len(numbers), 3)] // to sign ten thousand takes minutes and shows the same
	more, err := s.open(ctx, few, fewLeaves, miss, new(report.Curve))
	if err != nil {
		return err
	}
	err = o.sweep(ctx, append(cells, more...))
	add(rep, hit, miss, first)
	return err
}

// streets are the documents of many hosts, all of which one workload may call.
func (w *world) streets(hosts int) []string {
	d := w.documents(hosts)
	d.workload(0)
	for first := 0; first < hosts; first += perHost {
		d.grant(0, 0, first)
	}
	return d.texts()
}

// streets is what the egrets with many hosts have in common.
type streets struct {
	o         Options
	w         *world
	documents []string
	token     string
}

// open starts an egret that keeps some leaves (0: all), visits all hosts for the first
// time and returns the cells of the curve.
func (s streets) open(ctx context.Context, numbers []int, leaves int, curve, first *report.Curve) ([]cell, error) {
	n, err := s.w.start(ctx, setting{name: fmt.Sprintf("leaves-%d", leaves), policies: s.documents, leaves: leaves})
	if err != nil {
		return nil, err
	}
	if err := s.first(ctx, n, numbers, first); err != nil {
		return nil, err
	}
	s.o.say("destinations: %d hosts were visited", numbers[len(numbers)-1])
	var cells []cell
	p := &pace{}
	if leaves > 0 {
		p.every = time.Second / signed
	}
	for _, hosts := range numbers {
		if hosts > leaves {
			cells = append(cells, cell{curve, float64(hosts), n.program.PID(), s.visits(n, hosts, p), s.all(n, hosts, p)})
		}
	}
	return cells, nil
}

// all visits every host once more.
func (s streets) all(n *node, hosts int, p *pace) worker {
	return func(ctx context.Context) error {
		return parallel(ctx, hosts, func(ctx context.Context, i int) error {
			return s.visit(ctx, n, i, p)
		})
	}
}

// visit is one connection with one request, when its turn comes.
func (s streets) visit(ctx context.Context, n *node, i int, p *pace) error {
	if err := p.wait(ctx); err != nil {
		return err
	}
	c, err := s.w.dial(ctx, n.address, hostName(i), s.token)
	if err != nil {
		return err
	}
	defer c.close()
	return c.get()
}

// visits are workers that go round the hosts, each its own part.
func (s streets) visits(n *node, hosts int, p *pace) []worker {
	out := make([]worker, 0, visitors)
	for i := range visitors {
		next := i % hosts
		out = append(out, func(ctx context.Context) error {
			at := next
			if next += visitors; next >= hosts {
				next = i % hosts
			}
			return s.visit(ctx, n, at, p)
		})
	}
	return out
}

// first visits every host once and notes what that cost for each of the numbers.
func (s streets) first(ctx context.Context, n *node, numbers []int, curve *report.Curve) error {
	p, done := &pace{every: time.Second / signed}, 0
	for _, number := range numbers {
		spent, err := cpuOf(n.program.PID(), func() error {
			return parallel(ctx, number-done, func(ctx context.Context, i int) error {
				return s.visit(ctx, n, done+i, p)
			})
		})
		if err != nil {
			return err
		}
		curve.Points = append(curve.Points, report.Point{X: float64(number), Value: float64(spent) / float64(number-done)})
		done = number
	}
	return nil
}

// pace lets callers go one by one, with some time between them; none where it is 0.
type pace struct {
	mu    sync.Mutex
	next  time.Time
	every time.Duration
}

func (p *pace) wait(ctx context.Context) error {
	if p.every == 0 {
		return nil
	}
	p.mu.Lock()
	at := time.Now()
	if p.next.After(at) {
		at = p.next
	}
	p.next = at.Add(p.every)
	p.mu.Unlock()
	return pause(ctx, time.Until(at))
}
