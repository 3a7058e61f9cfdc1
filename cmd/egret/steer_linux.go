// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/egret-proxy/egret/cmd/egret/internal/steering"
	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/internal/redirect"
)

func (f *steerFlags) run(cmd *cobra.Command) error {
	uid, err := f.uid()
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("egret steer must be started as root: it enters network namespaces; egret run needs no privilege")
	}
	o, err := f.redirect.options()
	if err != nil {
		return err
	}
	keep, err := capabilities(f.keepCaps)
	if err != nil {
		return err
	}
	if err := steering.Drop(keep...); err != nil {
		return err
	}
	log := newLogger(cmd.ErrOrStderr(), config.Log{})
	s, err := steering.New(steering.Options{
		Socket: f.socket, Control: f.control, State: f.state, Namespaces: f.namespaces, CRI: f.cri, UID: uid, Port: f.redirect.port, Max: f.max,
		Backend: redirect.Backend(f.redirect.backend), Redirect: o, Log: log,
	})
	if err != nil {
		return folderHint(err)
	}
	log.Info("steering", "socket", f.socket, "control", f.control, "namespaces", f.namespaces, "cri", f.cri, "uid", uid)
	return s.Run(cmd.Context())
}

// folderHint says why root is denied a folder.
func folderHint(err error) error {
	if errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w (egret steer gives up CAP_DAC_OVERRIDE, so it may write only where root may by the file mode: let root own the folders of --socket, --control and --state)", err)
	}
	return err
}

// capabilities are those that egret steer keeps.
func capabilities(more []string) ([]uintptr, error) {
	out := []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN}
	for _, name := range more {
		switch strings.TrimPrefix(strings.ToLower(name), "cap_") {
		case "net_raw":
			out = append(out, unix.CAP_NET_RAW)
		case "sys_ptrace":
			out = append(out, unix.CAP_SYS_PTRACE)
		default:
			return nil, usagef("--keep-cap %q must be net_raw or sys_ptrace", name)
		}
	}
	return out, nil
}

// cni answers a container runtime that has called this program as its plugin.
func cni(ctx context.Context) int {
	p := steering.Plugin{Env: os.Getenv, In: os.Stdin, Out: os.Stdout, Called: ctx} //nolint:forbidigo // the process itself is the plugin
	return p.Run()
}
