// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// notify tells systemd, where this is its service.
func (n *Node) notify(lines ...string) {
	if n.opt.Service {
		_, _ = daemon.SdNotify(false, strings.Join(lines, "\n"))
	}
}

// reloading tells systemd about a reload; the result tells its end. Before egret is
// ready there is nothing to tell: READY=1 would be a lie.
func (n *Node) reloading() (done func()) {
	n.telling.Lock()
	defer n.telling.Unlock()
	if !n.told {
		return func() {}
	}
	n.notify(daemon.SdNotifyReloading, daemon.SdNotifyMonotonicUsec())
	return func() {
		if !n.draining.Load() {
			n.notify(daemon.SdNotifyReady, "STATUS="+n.status())
		}
	}
}

// status is one line for systemctl status.
func (n *Node) status() string {
	s := "policy " + n.reload.now().bundle.Digest
	if n.reload.health() != nil {
		s += " (an older one: the last reload failed, see the log)"
	}
	return s
}

// watchdog tells systemd that we live, where it asks.
func (n *Node) watchdog(ctx context.Context) {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every <= 0 || !n.opt.Service {
		return
	}
	t := time.NewTicker(every / 2)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			n.notify(daemon.SdNotifyWatchdog)
		}
	}
}

// catchHangup begins before anything else: a SIGHUP during the start would end us.
func (n *Node) catchHangup() {
	n.hangup = make(chan os.Signal, 1)
	if n.opt.Service {
		signal.Notify(n.hangup, syscall.SIGHUP)
		n.onClose(func() { signal.Stop(n.hangup) })
	}
}

// hangups reopens the audit file and reloads at every SIGHUP, until ctx ends.
func (n *Node) hangups(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.hangup:
			if n.file != nil {
				if err := n.file.Reopen(); err != nil {
					n.log.Error("the audit file could not be reopened, records go on to the old one", "error", err)
				}
			}
			_, _ = n.Reload() // it has logged why it failed
		}
	}
}
