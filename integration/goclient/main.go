// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Goclient is what people write with Go's own HTTP client, grpc-go and coder/websocket,
// as small as it gets: nothing is set up but what the libraries read from the
// environment themselves. Its verb env runs another program with less environment.
package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "goclient:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	verbs := map[string]func(context.Context, []string) error{"http": get, "grpc": call, "ws": websocketEcho, "env": withLess}
	if len(args) < 2 || verbs[args[0]] == nil {
		return fmt.Errorf("usage: goclient http URL | grpc HOST:PORT METHOD | ws URL | env KEEP -- COMMAND")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return verbs[args[0]](ctx, args[1:])
}
