// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"
)

var errNotLinux = errors.New("egret steer needs Linux: other systems have no network namespaces")

func (f *steerFlags) run(*cobra.Command) error { return errNotLinux }

// cni answers a container runtime, which there is none of here.
func cni(context.Context) int {
	_, _ = os.Stderr.WriteString(errNotLinux.Error() + "\n")
	return exitFailed
}
