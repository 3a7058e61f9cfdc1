// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package steering

import (
	"fmt"
	"strings"
	"time"
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
	NetNS     uint64 `json:"netns"` // cookie; 0: it has not been entered
	UID       string `json:"uid,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	State     string `json:"state"` // served, waiting (for egret run), failed, refused (it is not captured)
	Error     string `json:"error,omitempty"`
}

// States of a Pod and of a Source.
const (
	stateRefused = "refused"
	stateAway    = "away"
)

// Source is a line of GET /v1/sources: who tells of pods without being asked by them.
type Source struct {
	Kind      string    `json:"kind"` // cri
	Address   string    `json:"address"`
	Runtime   string    `json:"runtime,omitempty"` // name and version
	State     string    `json:"state"`             // events, polled, away (what is captured stays so)
	Every     float64   `json:"every"`             // seconds at most between two looks
	Since     time.Time `json:"since"`             // of being in step, or away
	Sandboxes int       `json:"sandboxes"`         // known, those that are not steered among them
	Error     string    `json:"error,omitempty"`   // of away
}

// Away reports whether nothing new is heard.
func (s Source) Away() bool { return s.State == stateAway }

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
