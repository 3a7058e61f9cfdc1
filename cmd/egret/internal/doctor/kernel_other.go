// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package doctor

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/egret-proxy/egret/identity"
)

// kernel: egret asks none but Linux who connects.
func (e *examination) kernel() {
	n := needed(e.Config.Listeners)
	e.feature("kernel", "", fmt.Errorf("%s does not say who connects", runtime.GOOS), n != needs{})
}

func connected(subject, bool) (identity.Process, func(), error) {
	return identity.Process{}, nil, errors.ErrUnsupported
}

func listening() []uint16 { return nil }
