// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"io/fs"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Env is what the checks ask of the machine. A nil member is the machine itself, so
// that the zero Env is the real one; tests set what they need.
type Env struct {
	// HostNetwork reports whether egret shares its network namespace with the whole
	// machine, or cannot tell.
	HostNetwork func() bool
	// GOOS is the operating system; empty is the one that runs.
	GOOS     string
	Getenv   func(string) string
	Hostname func() (string, error)
	Stat     func(string) (fs.FileInfo, error)
	ReadFile func(string) ([]byte, error)
	Lstat    func(string) (fs.FileInfo, error)
	// Writable says why files cannot be made in a folder, nil where they can.
	Writable func(dir string) error
}

// complete returns e with every nil member replaced by the machine's own.
func (e Env) complete() Env {
	if e.HostNetwork == nil {
		e.HostNetwork = inHostNetwork
	}
	if e.GOOS == "" {
		e.GOOS = runtime.GOOS
	}
	if e.Getenv == nil {
		e.Getenv = os.Getenv
	}
	if e.Hostname == nil {
		e.Hostname = os.Hostname
	}
	if e.Stat == nil {
		e.Stat = os.Stat
	}
	if e.ReadFile == nil {
		e.ReadFile = readRegular
	}
	if e.Lstat == nil {
		e.Lstat = os.Lstat
	}
	if e.Writable == nil {
		e.Writable = writable
	}
	return e
}

// writable asks the kernel, which knows of read-only mounts, too.
func writable(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }
