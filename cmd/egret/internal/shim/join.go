// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"io"
	"net"
	"sync"
)

// half is a connection of which one direction can be ended.
type half interface {
	net.Conn
	CloseWrite() error
}

// join copies both ways until both have ended. An end of one direction is passed on
// and leaves the other; a failure ends both. How long a connection may be idle is the
// node's decision, and a peer that has vanished is noticed by the kernel.
func join(a, b half) {
	var back sync.WaitGroup
	back.Go(func() { pass(a, b) })
	pass(b, a)
	back.Wait()
}

func pass(to, from half) {
	_, err := io.Copy(to, from)
	if err == nil {
		err = to.CloseWrite()
	}
	if err != nil {
		_, _ = to.Close(), from.Close()
	}
}
