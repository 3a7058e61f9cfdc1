// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package host

import (
	"errors"
	"time"
)

// ProcessCPU is known on Linux only.
func ProcessCPU(int) (time.Duration, error) {
	return 0, errors.ErrUnsupported
}

// TreeCPU is known on Linux only.
func TreeCPU(int) (map[int]time.Duration, error) { return nil, errors.ErrUnsupported }

// TreeMemory is known on Linux only.
func TreeMemory(int) (int64, error) { return 0, errors.ErrUnsupported }

// MachineUsage is known on Linux only.
func MachineUsage() (Usage, bool) { return Usage{}, false }

// SleepUntil sleeps until t.
func SleepUntil(t time.Time) { time.Sleep(time.Until(t)) }
