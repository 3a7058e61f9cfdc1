// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package doctor

import (
	"errors"
	"fmt"
	"runtime"
)

// kernel: egret asks none but Linux who connects.
func (e *examination) kernel() {
	n := needed(e.Config.Listeners)
	e.feature("kernel", "", fmt.Errorf("%s does not say who connects", runtime.GOOS), n != needs{})
}

func ownCgroup() (string, error) { return "", errors.ErrUnsupported }
