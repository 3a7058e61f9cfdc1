// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"
	"strings"

	"github.com/egret-proxy/egret/identity"
)

// inPod holds the workload's cgroup to the pod whose network namespace the connection came
// from: two facts of the kernel, from two sources, about one pod. What has got into
// another's network namespace, or its cgroup, is neither.
func (s *session) inPod(uid string) error {
	if uid == "" {
		return nil // the namespace names no pod
	}
	ref := s.subject.Load()
	switch {
	case ref.PodUID == uid:
		return nil
	case ref.PodUID == "":
		return fmt.Errorf("%w: the connection came from the network namespace of pod %s, and cgroup %q of the process is no pod's", identity.ErrUnknown, uid, ref.Cgroup)
	}
	return fmt.Errorf("%w: the connection came from the network namespace of pod %s, and cgroup %q of the process is of pod %s", identity.ErrUnknown, uid, ref.Cgroup, ref.PodUID)
}

// pod returns the UID of the Kubernetes pod that a cgroup belongs to, empty where none.
// An agent that is asked about a pod takes our word for it. A group's name is evidence
// only where root alone could make it: users have groups that systemd has delegated to
// them, in which they make "kubepods" and every other name.
func (r *Resolver) pod(cgroup string) string {
	uid, group := podUID(cgroup)
	if uid == "" || !r.options.Cgroups.RootsAlone(group) {
		return ""
	}
	return uid
}

// podUID finds the UID of the Kubernetes pod that a cgroup belongs to by its name, and
// the pod's own group. The kubelet makes
//
//	/kubepods/burstable/pod<uid>/<container>                                        (cgroupfs)
//	/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid>.slice/…    (systemd)
//
// below its cgroup root, with underscores for the UID's dashes in the second form. The
// first match from the top counts: what is below it may be named by the container. What
// is not below "kubepods" is no pod.
func podUID(cgroup string) (uid, group string) {
	inside, end := false, -1
	for part := range strings.SplitSeq(cgroup, "/") {
		end += len("/") + len(part)
		name, slice := strings.CutSuffix(part, ".slice")
		if !inside {
			inside = name == "kubepods" || slice && strings.HasSuffix(name, "-kubepods")
			continue
		}
		if slice {
			name = name[strings.LastIndexByte(name, '-')+1:]
			name = strings.ReplaceAll(name, "_", "-")
		}
		if uid, found := strings.CutPrefix(name, "pod"); found {
			return validUID(uid), cgroup[:end]
		}
	}
	return "", ""
}

// validUID returns a UUID as Kubernetes writes it, or nothing. Static pods have a hash
// of 32 digits instead, which no agent can look up.
func validUID(s string) string {
	if len(s) != 36 {
		return ""
	}
	for n := range len(s) {
		dash := n == 8 || n == 13 || n == 18 || n == 23
		if dash != (s[n] == '-') || !dash && !strings.Contains("0123456789abcdef", s[n:n+1]) {
			return ""
		}
	}
	return s
}
