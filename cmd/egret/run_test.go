// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/config"
)

func TestLogHasDurationsAsText(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "text"} {
		var b bytes.Buffer
		newLogger(&b, config.Log{Format: format}).Info("x", "after", 1504*time.Millisecond)
		if !strings.Contains(b.String(), "1.504s") {
			t.Errorf("%s: %s", format, b.String())
		}
	}
}
