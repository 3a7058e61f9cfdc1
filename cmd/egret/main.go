// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Command egret is a transparent egress proxy that injects credentials.
package main

import (
	"context"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
	_ "time/tzdata" // schedules name time zones; small images have no zone files
)

// again is how long after the first a signal is taken for the same: timeout(1) and some
// shells send it to the process and then to its whole group.
const again = time.Second

func main() {
	silence()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() {
		time.AfterFunc(again, stop) // another signal does not wait for anything
	})
	if filepath.Base(os.Args[0]) == "egret-cni" { // container runtimes call plugins by name, without arguments
		os.Exit(cni(ctx))
	}
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// silence ends the standard log, which egret does not use. net/http prints there what an
// upstream sends unasked on an idle connection, word by word, and that may be the
// credential that the upstream was sent before (MUST C9).
func silence() {
	log.SetOutput(io.Discard) //nolint:forbidigo // there is no other way to keep net/http from it
}
