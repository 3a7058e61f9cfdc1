// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Dashboard is the nightly job of the example. It is an ordinary program with no token
// in its code, arguments or environment; what it does is in the folder job.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/egret-proxy/egret/examples/local/dashboard/job"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := job.Report(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "dashboard:", err)
		os.Exit(1)
	}
}
