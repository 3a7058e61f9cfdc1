// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package growth

import (
	"context"
	"errors"
	"fmt"

	"github.com/egret-proxy/egret/bench/internal/host"
	"github.com/egret-proxy/egret/bench/internal/report"
)

// most is how many connections one egret is given: each costs it one descriptor, and of a
// workload with its own pool two, of which 20,000 are allowed on the machines of CI.
const most = 9000

// connections: one workload, more and more connections, all of which are used in turn.
func connections(ctx context.Context, o Options, w *world, rep *report.Report) error {
	d := w.documents(1)
	d.grants(1)
	token, err := w.token(0)
	if err != nil {
		return err
	}
	serial := cpuCurve("connections", "one request at a time", "open connections")
	busy := cpuCurve("connections", fmt.Sprintf("%d at a time", together), "open connections")
	serial.Why = "the more connections, the longer it is since each was used: its state has left the CPU's caches, and the kernel's and the TLS connection's are fetched again"
	var cells []cell
	for _, n := range o.numbers(1, together, 100, 1000, most) {
		nd, f, err := w.crowd(ctx, setting{name: fmt.Sprint(n), policies: d.texts()}, same(n, hostName(0), token))
		if err != nil {
			return err
		}
		defer f.close() //nolint:revive // all are held until the end
		o.say("connections: %d are open: %v of CPU each", n, f.cpu)
		cells = append(cells, cell{curve: serial, x: float64(n), pid: nd.program.PID(), workers: cycle(f.conns, 1)})
		if n >= together {
			cells = append(cells, cell{curve: busy, x: float64(n), pid: nd.program.PID(), workers: cycle(f.conns, together)})
		}
		if n == most {
			figure(rep, "CPU of a new connection with its first request", float64(f.cpu), report.Nanoseconds)
		}
	}
	err = o.sweep(ctx, cells)
	add(rep, serial, busy)
	return errors.Join(err, memoryEach(rep, perConnection, cells))
}

// memoryEach is what one more costs: the difference between the egret with the most and
// one with few, both of which have worked and collected their garbage meanwhile. It is
// left out where there is no egret with the most.
func memoryEach(rep *report.Report, name string, cells []cell) error {
	few, many := -1, -1
	for i, c := range cells {
		switch c.x {
		case together:
			few = i
		case most:
			many = i
		}
	}
	if few < 0 || many < 0 {
		return nil
	}
	less, err := host.Resident(cells[few].pid)
	if err != nil {
		return err
	}
	more, err := host.Resident(cells[many].pid)
	if err != nil {
		return err
	}
	figure(rep, name, float64(more-less)/(most-together), report.Octets)
	return nil
}

// crowd starts an egret and opens connections to it.
func (w *world) crowd(ctx context.Context, s setting, callers []caller) (*node, *fleet, error) {
	n, err := w.start(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	f, err := w.open(ctx, n, callers)
	return n, f, err
}

// policies: the same load, more and more access policies loaded.
func policies(ctx context.Context, o Options, w *world, rep *report.Report) error {
	token, err := w.token(0)
	if err != nil {
		return err
	}
	curve := cpuCurve("policies", "16 connections", "access policies")
	var cells []cell
	for _, n := range o.numbers(1, 100, 1000, 10000, 50000) {
		d := w.documents(1)
		d.grants(n)
		nd, f, err := w.crowd(ctx, setting{name: fmt.Sprint(n), policies: d.texts()}, same(together, hostName(0), token))
		if err != nil {
			return err
		}
		defer f.close() //nolint:revive // all are held until the end
		o.say("policies: %d are loaded after %v", n, nd.ready)
		cells = append(cells, cell{curve: curve, x: float64(n), pid: nd.program.PID(), workers: cycle(f.conns, together)})
	}
	err = o.sweep(ctx, cells)
	add(rep, curve)
	return err
}

// workloads: more and more callers, each with a connection and upstream connections of
// its own, which are open already.
func workloads(ctx context.Context, o Options, w *world, rep *report.Report) error {
	curve := cpuCurve("workloads", "warm pools", "workloads")
	curve.Why = "each workload has its own upstream connection, which no other may use: twice as many connections as above are used in turn. " +
		"A connection that is idle for 90 s is closed: each window comes after one request of every workload. It ends at 9,000 because each costs two of 20,000 descriptors"
	numbers := o.numbers(1, together, 100, 1000, most)
	d := w.documents(1)
	for i := range numbers[len(numbers)-1] {
		d.workload(i)
		d.grant(i, 0, 0)
	}
	var cells []cell
	for _, n := range numbers {
		callers, err := w.crew(n)
		if err != nil {
			return err
		}
		nd, f, err := w.crowd(ctx, setting{name: fmt.Sprint(n), policies: d.texts()}, callers)
		if err != nil {
			return err
		}
		defer f.close() //nolint:revive // all are held until the end
		o.say("workloads: %d are known: %v of CPU each", n, f.cpu)
		cells = append(cells, cell{curve, float64(n), nd.program.PID(), cycle(f.conns, together), pass(f.conns)})
		if n == most {
			figure(rep, "CPU of a workload's first request, all cold", float64(f.cpu), report.Nanoseconds)
		}
	}
	err := o.sweep(ctx, cells)
	add(rep, curve)
	return errors.Join(err, memoryEach(rep, perWorkload, cells))
}

// crew are one connection of each workload, and several of a single one, so that as many
// requests can be under way.
func (w *world) crew(n int) ([]caller, error) {
	var out []caller
	for i := range max(n, together) {
		token, err := w.token(i % n)
		if err != nil {
			return nil, err
		}
		out = append(out, caller{hostName(0), token})
	}
	return out, nil
}
