// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Units of Size. Decimal units are refused: 64KB is read as 64,000 by some and as
// 65,536 by others.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
)

// ParseSize reads a number of bytes: digits, then nothing, KiB, MiB or GiB. The
// result is never negative.
func ParseSize(s string) (Size, error) {
	digits, unit := s, Size(1)
	for _, u := range units() {
		if cut, ok := strings.CutSuffix(s, u.name); ok {
			digits, unit = cut, u.size
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || Size(n) > math.MaxInt64/unit {
		return 0, fmt.Errorf("%q is not a size: must be a whole number of bytes with KiB, MiB, GiB or no unit", s)
	}
	return Size(n) * unit, nil
}

// String returns the shortest form that ParseSize reads back.
func (s Size) String() string {
	for _, u := range units() {
		if s >= u.size && s%u.size == 0 {
			return strconv.FormatInt(int64(s/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

type unit struct {
	name string
	size Size
}

func units() [3]unit {
	return [3]unit{{"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}}
}
