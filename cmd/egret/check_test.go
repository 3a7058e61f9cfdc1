// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"testing"
)

// TestUnlessEnded: what does not answer does not keep a signal from ending the verb.
func TestUnlessEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	if v, err := unlessEnded(ctx, func() (int, error) { return 7, nil }); v != 7 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
	never := make(chan struct{})
	defer close(never)
	cancel()
	_, err := unlessEnded(ctx, func() (int, error) { <-never; return 7, nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want the end of the context", err)
	}
}
