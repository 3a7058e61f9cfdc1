// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"os"
	"runtime"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       Usage
		ok         bool
	}{
		{"a machine", "cpu  10 1 5 100 20 2 3 4 7 0\ncpu0 …\n", Usage{Busy: 250 * time.Millisecond, Total: 1450 * time.Millisecond}, true},
		{"empty", "", Usage{}, false},
		{"one core's line", "cpu0 1 2 3 4 5 6 7 8\n", Usage{}, false},
		{"short", "cpu 1 2 3\n", Usage{}, false},
		{"no number", "cpu 1 2 x 4 5 6 7 8\n", Usage{}, false},
	} {
		got, ok := parseStat([]byte(c.text))
		if got != c.want || ok != c.ok {
			t.Errorf("%s: %+v %v, want %+v %v", c.name, got, ok, c.want, c.ok)
		}
	}
}

func TestProcessCPUGrowsWithWork(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("CPU clocks of processes are read on Linux only")
	}
	before, err := ProcessCPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	x, end := uint64(1), time.Now().Add(5*time.Second)
	var spent time.Duration
	for spent < 5*time.Millisecond && time.Now().Before(end) {
		for range 1 << 16 {
			x = x*6364136223846793005 + 1442695040888963407
		}
		now, err := ProcessCPU(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		spent = now - before
	}
	if spent < 5*time.Millisecond || x == 0 {
		t.Errorf("five seconds of work cost %v", spent)
	}
	if u, ok := MachineUsage(); !ok || u.Busy <= 0 || u.Busy > u.Total {
		t.Errorf("the machine's usage is %+v, %v", u, ok)
	}
	if _, err := ProcessCPU(1 << 28); err == nil {
		t.Error("a process that does not exist has a CPU clock")
	}
}

func TestSleepUntil(t *testing.T) {
	at := time.Now().Add(3 * time.Millisecond)
	SleepUntil(at)
	if time.Now().Before(at) {
		t.Error("awake too early")
	}
	SleepUntil(time.Now().Add(-time.Hour)) // returns at once
}
