// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"fmt"
	"time"

	"github.com/egret-proxy/egret/bench/internal/host"
)

// counts reads the requests and bytes so far, and is told whether latencies count from
// now on.
type counts func(measuring bool) (requests, bytes int64)

// measure waits for the warm-up, and reads clocks and counters at both ends of the window.
func measure(ctx context.Context, s Spec, c counts) (Result, error) {
	if err := sleep(ctx, s.Warmup); err != nil {
		return Result{}, err
	}
	a, err := take(s, func() (int64, int64) { return c(true) })
	if err != nil {
		return Result{}, err
	}
	if err := sleep(ctx, s.Window); err != nil {
		return Result{}, err
	}
	b, err := take(s, func() (int64, int64) { return c(false) })
	if err != nil {
		return Result{}, err
	}
	return b.since(a)
}

// snapshot is every clock and counter at one moment.
type snapshot struct {
	at              time.Time
	requests, bytes int64
	cpu             map[string]map[int]time.Duration // by name and process
	machine         host.Usage
}

func take(s Spec, c func() (requests, bytes int64)) (snapshot, error) {
	sn := snapshot{cpu: make(map[string]map[int]time.Duration, len(s.PIDs))}
	for name, pid := range s.PIDs {
		tree, err := host.TreeCPU(pid)
		if err != nil {
			return sn, fmt.Errorf("%s: %w", name, err)
		}
		sn.cpu[name] = tree
	}
	sn.machine, _ = host.MachineUsage()
	sn.requests, sn.bytes = c()
	sn.at = time.Now()
	return sn, nil
}

func (s snapshot) since(a snapshot) (Result, error) {
	r := Result{Elapsed: s.at.Sub(a.at), Requests: s.requests - a.requests, Bytes: s.bytes - a.bytes, CPU: make(map[string]time.Duration, len(s.cpu))}
	for name, tree := range s.cpu {
		d, err := host.Since(tree, a.cpu[name])
		if err != nil {
			return r, fmt.Errorf("%s: %w", name, err)
		}
		r.CPU[name] = d
	}
	r.Machine = host.Usage{Busy: s.machine.Busy - a.machine.Busy, Total: s.machine.Total - a.machine.Total}
	return r, nil
}
