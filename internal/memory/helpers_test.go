// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// collections makes garbage and says how often it was collected.
func collections() uint32 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 2 * headroom >> 10 {
		garbage = make([]byte, 1<<10)
	}
	runtime.ReadMemStats(&after)
	return after.NumGC - before.NumGC
}

var garbage []byte //nolint:gochecknoglobals // so that it is allocated

func residentBytes(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}
