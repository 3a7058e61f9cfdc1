// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"

	api "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Broadcasts reports whether events may be asked for. Up to its version 1.7 containerd gives
// each event to only one of those who ask (containerd/containerd#7318), so that what is read
// here the kubelet would miss; what is not known is not asked.
func (r Runtime) Broadcasts() bool {
	switch r.Name {
	case "cri-o":
		return true
	case "containerd":
		major, _, _ := strings.Cut(strings.TrimPrefix(r.Version, "v"), ".")
		n, err := strconv.Atoi(major)
		return err == nil && n >= 2
	}
	return false
}

// ErrNoEvents: the runtime has no events, or is not set to tell them.
var ErrNoEvents = errors.New("the runtime tells no events")

// Events calls happened after each event of a container or a sandbox, until ctx ends or
// the stream does. happened must not block: containerd waits for whoever does not read. What
// has happened is not told: what counts is what there is then. ErrNoEvents where the stream
// ends without a fault.
func (c *Client) Events(ctx context.Context, happened func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.api.GetContainerEvents(ctx, &api.GetEventsRequest{})
	for err == nil {
		if _, err = stream.Recv(); err == nil {
			happened()
		}
	}
	if errors.Is(err, io.EOF) { // so CRI-O says that enable_pod_events is not set
		return ErrNoEvents
	}
	return told(err)
}
