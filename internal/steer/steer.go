// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package steer brings the connections of other network namespaces to one egret, without
// a sidecar in them and without privileges for the process that holds credentials (MUST
// P1). Two processes share the work over a unix SEQPACKET socket:
//
//   - the Steersman (egret steer) may enter network namespaces. In each it opens listening
//     sockets on loopback and a NETLINK_SOCK_DIAG socket, has the redirect rules installed,
//     and passes the sockets on (SCM_RIGHTS). It has no credentials, parses no traffic and
//     makes no connection.
//   - the Receiver (egret run) serves the sockets and dials from its own namespace. It may
//     enter nothing.
//
// Both hold the sockets, so that either may be restarted: connections that come while the
// Receiver is away wait in the listening socket's backlog, and a Steersman that comes back
// is given the sockets that it made before. A namespace is held by a descriptor for as
// long as it is steered, and named by key and cookie together in every message, so that
// two pods of one name after another are never taken for each other.
package steer

import (
	"errors"
	"fmt"
	"strings"
)

// Pod is what is known about a network namespace from outside of it. It is the word of
// whoever made the namespace, not of what runs in it.
type Pod struct {
	Key       string `json:"key"`                 // names it among all of one Steersman: a file's name, or the pod's UID
	NetNS     uint64 `json:"netns"`               // cookie of the namespace (SO_NETNS_COOKIE), which no other ever gets until the machine is booted anew
	UID       string `json:"uid,omitempty"`       // of the Kubernetes pod
	Namespace string `json:"namespace,omitempty"` // Kubernetes', of the pod
	Name      string `json:"name,omitempty"`      // of the pod
}

// String names a pod in logs.
func (p Pod) String() string {
	if p.Name != "" {
		return p.Namespace + "/" + p.Name
	}
	return p.Key
}

// maxKey bounds every text of a Pod.
const maxKey = 253

func (p Pod) check() error {
	for name, s := range map[string]string{"key": p.Key, "uid": p.UID, "namespace": p.Namespace, "name": p.Name} {
		if len(s) > maxKey || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fmt.Errorf("%s %q must be at most %d printable characters without blanks", name, s[:min(len(s), 64)], maxKey)
		}
	}
	if p.Key == "" || p.NetNS == 0 {
		return errors.New("a pod must have a key and a network namespace")
	}
	return nil
}

// same reports whether two are one namespace under one key.
func (p Pod) same(o Pod) bool { return p.Key == o.Key && p.NetNS == o.NetNS }

// version of the protocol. Both processes are of one release; another version is refused.
const version = 1

// message is one packet. Which members count depends on Type.
type message struct {
	Type      string `json:"type"`
	Version   int    `json:"version,omitempty"`   // hello
	Pod       *Pod   `json:"pod,omitempty"`       // have, add, remove, ack
	Listeners int    `json:"listeners,omitempty"` // have, add: descriptors that are listening sockets; one more is the sock_diag
	Error     string `json:"error,omitempty"`     // ack: why it is not served; bye: why the connection ends
}

// Types of messages.
const (
	typeHello  = "hello"  // Receiver: the first
	typeHave   = "have"   // Receiver: serves this already; with descriptors
	typeReady  = "ready"  // Receiver: has told all that it serves
	typeAdd    = "add"    // Steersman: serve this; with descriptors
	typeRemove = "remove" // Steersman: serve this no more
	typeSynced = "synced" // Steersman: has told all that there is; what was not named is gone
	typeAck    = "ack"    // Receiver: serves it, or does not
	typeBye    = "bye"    // either: cannot go on
)

// Sizes of a packet.
const (
	maxPacket = 16 << 10
	maxFDs    = 4 // listening sockets for IPv4 and IPv6, and the sock_diag
)
