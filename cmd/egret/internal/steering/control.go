// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package steering

import (
	"fmt"
	"strings"
)

// AddRequest asks POST /v1/pods of the control socket.
type AddRequest struct {
	Key       string `json:"key"`
	NetNS     string `json:"netns"` // path of the namespace
	UID       string `json:"uid,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
}

// Pod is a line of GET /v1/pods.
type Pod struct {
	Key       string `json:"key"`
	NetNS     uint64 `json:"netns"` // cookie
	UID       string `json:"uid,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	State     string `json:"state"`
	Error     string `json:"error,omitempty"`
}

// args reads CNI_ARGS, "K=V;K=V".
func args(s string) (map[string]string, error) {
	out := map[string]string{}
	for pair := range strings.SplitSeq(s, ";") {
		if pair == "" {
			continue
		}
		k, v, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, fmt.Errorf("CNI_ARGS must be KEY=VALUE;…, and has %q", pair)
		}
		out[k] = v
	}
	return out, nil
}
