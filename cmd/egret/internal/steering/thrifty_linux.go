// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package steering

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/egret-proxy/egret/internal/redirect"
)

// thrifty is the Runner of one visit to one namespace. Pods come and go by the hundred, and
// each firewall program that is started takes milliseconds: so it asks for a ruleset once,
// and leaves out questions that the kernel has answered already. It must be used on the
// thread that is in the namespace.
type thrifty struct {
	redirect.Runner
	ruleset string // as nft has listed it; known says whether it has
	known   bool
}

// Run implements redirect.Runner.
func (r *thrifty) Run(ctx context.Context, input, program string, args ...string) (string, error) {
	switch {
	case program == "nft" && len(args) == 2 && args[0] == "list":
		if r.known {
			return r.ruleset, nil
		}
		text, err := r.Runner.Run(ctx, input, program, args...)
		r.ruleset, r.known = text, err == nil
		return text, err
	case strings.HasSuffix(program, "tables-legacy-save"):
		return r.legacy(ctx, program)
	case strings.HasSuffix(program, "tables-nft-save") && r.known && !strings.Contains(r.ruleset, "table "+familyOf(program)+" "):
		return "", nil // its rules would be in tables of this family
	case program == "nft" && len(args) == 1 && args[0] == "--version" && r.known:
		return "", nil // it is there: it has just been asked
	case strings.HasSuffix(program, "-save"):
	default:
		r.known = false // it changes something
	}
	return r.Runner.Run(ctx, input, program, args...)
}

// legacy looks at the tables of the old iptables, where there are any.
func (r *thrifty) legacy(ctx context.Context, saver string) (string, error) {
	if !legacyTables(saver) {
		return "", nil
	}
	text, err := r.Runner.Run(ctx, "", saver)
	if errors.Is(err, redirect.ErrPrivilege) {
		err = fmt.Errorf("the pod has tables of the old iptables, which take CAP_NET_RAW to read: start egret steer with --keep-cap net_raw (%w)", err)
	}
	return text, err
}

func familyOf(program string) string {
	if strings.HasPrefix(program, "ip6") {
		return "ip6"
	}
	return "ip"
}

// legacyTables reports whether the namespace has tables of the old iptables: the kernel
// lists them, and without one there is no rule.
func legacyTables(program string) bool {
	text, err := os.ReadFile("/proc/thread-self/net/" + familyOf(program) + "_tables_names")
	if errors.Is(err, os.ErrNotExist) {
		return false
	}
	return err != nil || len(text) > 0
}
