// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"strings"

	"github.com/egret-proxy/egret/config"
)

// network tells who else reaches loopback here.
func (e *examination) network() {
	const check = "network namespace"
	if e.HostNetwork() {
		e.ok(check, "the machine's own: every user of it reaches loopback, so sidecar listeners need sameUser")
		return
	}
	e.ok(check, "one of its own: only who is in it reaches its loopback")
}

// needs are the facts of the kernel that the listeners rely on. A missing fact that
// none relies on is worth a warning only.
type needs struct {
	uid    bool // of a TCP peer
	cgroup bool // of a TCP peer
	pidfd  bool // of a unix peer
	v2only bool // a TCP peer's cgroup is its workload's only where v1 is not mounted
}

func needed(list []config.Listener) (n needs) {
	for _, l := range list {
		unix := strings.HasPrefix(l.Address, "unix://")
		sameUser := l.Identify.Sidecar != nil && l.Identify.Sidecar.SameUser
		process := l.Identify.Process != nil
		n.uid = n.uid || sameUser && !unix || process && !unix
		n.cgroup = n.cgroup || process && !unix
		n.v2only = n.v2only || process && !unix && !l.Identify.Process.Hybrid && !l.Identify.Process.RootCgroup
		n.pidfd = n.pidfd || process && unix
	}
	return n
}

// feature tells of one fact of the kernel.
func (e *examination) feature(check, found string, err error, need bool) {
	switch {
	case err == nil:
		e.ok(check, "%s", found)
	case need:
		e.bad(Fail, check, "run a newer kernel, or let another kind of evidence identify callers", err)
	default:
		e.bad(Warn, check, "none of these listeners needs it", err)
	}
}
