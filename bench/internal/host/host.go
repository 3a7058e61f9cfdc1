// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package host reads what processes and the whole machine have cost in CPU time, and
// what the machine is.
package host

import (
	"bufio"
	"bytes"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Usage is the machine's CPU time since it was started, over all cores.
type Usage struct {
	Busy  time.Duration // of anybody, time stolen by the hypervisor included
	Total time.Duration
}

// tick is the unit of /proc/stat (USER_HZ, 100 on every Linux that Go runs on).
const tick = 10 * time.Millisecond

// parseStat reads the first line of /proc/stat: user nice system idle iowait irq
// softirq steal guest guest_nice, in ticks (proc_stat(5)). guest is part of user.
func parseStat(text []byte) (u Usage, ok bool) {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	f := strings.Fields(string(line))
	if len(f) < 9 || f[0] != "cpu" {
		return Usage{}, false
	}
	for i, s := range f[1:9] {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return Usage{}, false
		}
		d := time.Duration(n) * tick
		u.Total += d
		if i != 3 && i != 4 {
			u.Busy += d
		}
	}
	return u, true
}

// Machine describes where a measurement was made.
type Machine struct {
	OS     string `json:"os"`
	Arch   string `json:"arch"`
	Kernel string `json:"kernel,omitempty"`
	CPU    string `json:"cpu,omitempty"`
	Cores  int    `json:"cores"`
	Load   string `json:"load,omitempty"` // load averages over 1, 5 and 15 minutes
}

// Describe reads what this machine is; what cannot be read stays empty.
func Describe() Machine {
	m := Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, Cores: runtime.NumCPU(), CPU: cpuModel()}
	m.Kernel = firstLine("/proc/sys/kernel/osrelease")
	if f := strings.Fields(firstLine("/proc/loadavg")); len(f) >= 3 {
		m.Load = strings.Join(f[:3], " ")
	}
	return m
}

func firstLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line)
}

func cpuModel() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	for s := bufio.NewScanner(f); s.Scan(); {
		if k, v, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
