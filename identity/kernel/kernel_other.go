// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package kernel

import (
	"context"
	"errors"
)

// Process is not available on this system.
type Process struct{}

// Open is not available on this system.
func Open(int) (*Process, error) { return nil, errors.ErrUnsupported }

// Adopt is not available on this system.
func Adopt(int) (*Process, error) { return nil, errors.ErrUnsupported }

// PID is not available on this system.
func (*Process) PID() int { return 0 }

// Close is not available on this system.
func (*Process) Close() {}

// Alive is not available on this system.
func (*Process) Alive() bool { return false }

// Wait is not available on this system.
func (*Process) Wait(context.Context) error { return errors.ErrUnsupported }

// Facts is not available on this system.
func (*Process) Facts() (Facts, error) { return Facts{}, errors.ErrUnsupported }

// Hierarchies is not available on this system.
func (*Process) Hierarchies() (string, error) { return "", errors.ErrUnsupported }

// Executable is not available on this system.
func (*Process) Executable() (Executable, error) { return Executable{}, errors.ErrUnsupported }

// Stat is not available on this system.
func Stat(string) (Executable, error) { return Executable{}, errors.ErrUnsupported }

// SHA256 is not available on this system.
func (*Process) SHA256() (string, error) { return "", errors.ErrUnsupported }

// Cgroups is not available on this system.
type Cgroups struct{}

// FindCgroups is not available on this system.
func FindCgroups() (*Cgroups, error) { return nil, errors.ErrUnsupported }

// Hybrid is not available on this system.
func (*Cgroups) Hybrid() bool { return false }

// Root is not available on this system.
func (*Cgroups) Root() uint64 { return 0 }

// Path is not available on this system.
func (*Cgroups) Path(uint64) (string, error) { return "", errors.ErrUnsupported }

// RootsAlone is not available on this system.
func (*Cgroups) RootsAlone(string) bool { return false }

// PIDs is not available on this system.
func (*Cgroups) PIDs(uint64) ([]int, error) { return nil, errors.ErrUnsupported }
