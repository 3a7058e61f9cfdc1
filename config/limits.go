// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Bound is one numeric setting: its default and the range that makes sense. Zero is
// additionally allowed where OrZero says what it means.
type Bound struct {
	Key     string // path of the setting; [] stands for any element
	Default int64  // bytes, nanoseconds or a count, as the setting's type says
	Min     int64
	Max     int64
	OrZero  string // what zero means; empty: zero is refused
}

// Bounds is the only place where numbers of the configuration are: the loader checks
// by it, Defaults is filled from it and the reference is printed from it.
func Bounds() []Bound {
	const (
		millisecond = int64(time.Millisecond)
		second      = int64(time.Second)
		minute      = int64(time.Minute)
		hour        = int64(time.Hour)
		kib         = int64(KiB)
		mib         = int64(MiB)
	)
	return []Bound{
		{Key: "listeners[].identify.jwtSVID.maxTTL", Default: hour, Min: minute, Max: 24 * hour},
		{Key: "listeners[].identify.kubernetesToken.age", Default: 30 * second, Min: second, Max: minute},
		{Key: "upstream.mark", Default: 0, Min: 1, Max: 1<<32 - 1, OrZero: "none"},
		{Key: "certs.leafTTL", Default: 24 * hour, Min: minute, Max: 24 * hour},
		{Key: "audit.queue", Default: 4096, Min: 16, Max: 1_000_000},
		{Key: "audit.maxSize", Default: 100 * mib, Min: mib, Max: 100 * int64(GiB)},
		{Key: "audit.maxFiles", Default: 10, Min: 1, Max: 10_000},
		{Key: "limits.headerBytes", Default: 64 * kib, Min: kib, Max: mib},
		{Key: "limits.connections", Default: 9000, Min: 1, Max: 1_000_000},
		{Key: "limits.connectionsPerWorkload", Default: 1000, Min: 1, Max: 1_000_000},
		{Key: "limits.handshake", Default: 10 * second, Min: 100 * millisecond, Max: 2 * minute},
		{Key: "limits.idle", Default: 5 * minute, Min: second, Max: 24 * hour},
		{Key: "limits.tunnelIdle", Default: hour, Min: second, Max: 7 * 24 * hour},
		{Key: "limits.maxStream", Default: 24 * hour, Min: second, Max: 7 * 24 * hour},
		{Key: "limits.drain", Default: 30 * second, Min: 100 * millisecond, Max: hour},
		{Key: "limits.dial", Default: 10 * second, Min: 100 * millisecond, Max: 2 * minute},
		{Key: "limits.responseHeader", Default: 5 * minute, Min: 100 * millisecond, Max: 24 * hour, OrZero: "no bound"},
		{Key: "limits.credentialWait", Default: 10 * second, Min: 100 * millisecond, Max: 2 * minute},
		{Key: "limits.idleUpstreamPerKey", Default: 8, Min: 1, Max: 1000},
		{Key: "limits.idleUpstream", Default: 1024, Min: 1, Max: 100_000},
		{Key: "limits.leaves", Default: 4096, Min: 16, Max: 100_000},
		{Key: "limits.credentials", Default: 10_000, Min: 16, Max: 1_000_000},
		{Key: "limits.processes", Default: 4096, Min: 1, Max: 100_000},
		{Key: "limits.processIdle", Default: 15 * minute, Min: 10 * second, Max: 24 * hour},
	}
}

func boundsByKey() map[string]Bound {
	out := make(map[string]Bound)
	for _, b := range Bounds() {
		out[b.Key] = b
	}
	return out
}

// rule says in words what the bound allows, in the setting's own unit.
func (b Bound) rule(t reflect.Type) string {
	text := fmt.Sprintf("must be from %s to %s", inUnit(t, b.Min), inUnit(t, b.Max))
	if b.OrZero != "" {
		text += ", or 0 for " + b.OrZero
	}
	return text
}

func (b Bound) allows(n int64) bool {
	return n >= b.Min && n <= b.Max || n == 0 && b.OrZero != ""
}

// inUnit prints a number as people would write it for a setting of this type.
func inUnit(t reflect.Type, n int64) string {
	switch t {
	case durationType:
		return shortDuration(time.Duration(n))
	case sizeType:
		return Size(n).String()
	}
	return fmt.Sprint(n)
}

// shortDuration is Duration.String without the units that are zero: 24h, not 24h0m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
