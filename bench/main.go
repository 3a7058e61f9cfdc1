// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Command bench measures what egret costs: CPU time of the proxy for each request,
// requests per second and added latency, against the same requests made directly and
// through other proxies. Its verbs are run, growth, steps, report and compare; origin and
// load are the processes that they start.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := dispatch(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to be cancelled
	}
}

// streams are where a verb reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

func dispatch(ctx context.Context, args []string, std streams) error {
	verbs := map[string]func(context.Context, []string, streams) error{"run": runVerb, "report": reportVerb, "compare": compareVerb, "growth": growthVerb, "steps": stepsVerb, "origin": originVerb, "load": loadVerb}
	if len(args) == 0 || verbs[args[0]] == nil {
		return errors.New("say what to do: run, report FILE.json, compare OLD.json NEW.json, growth, steps, or origin and load, which run starts by itself")
	}
	return verbs[args[0]](ctx, args[1:], std)
}
