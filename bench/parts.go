// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/egret-proxy/egret/bench/internal/load"
	"github.com/egret-proxy/egret/bench/internal/origin"
)

// originVerb serves the SaaS until it is told to end.
func originVerb(ctx context.Context, args []string, std streams) error {
	f := flag.NewFlagSet("origin", flag.ContinueOnError)
	f.SetOutput(std.err)
	address := f.String("address", "127.0.0.1:0", "where to listen")
	cert := f.String("cert", "", "PEM `file` of the certificate")
	key := f.String("key", "", "PEM `file` of its key")
	token := f.String("token-file", "", "`file` with the credential that requests must have")
	if err := f.Parse(args); err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(*cert, *key)
	if err != nil {
		return err
	}
	secret, err := os.ReadFile(*token)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", *address)
	if err != nil {
		return err
	}
	s := origin.New(strings.TrimSpace(string(secret))).Server(pair)
	context.AfterFunc(ctx, func() { _ = s.Close() })
	if _, err := fmt.Fprintf(std.out, "listening %s\n", l.Addr()); err != nil {
		return err
	}
	if err := s.ServeTLS(l, "", ""); ctx.Err() == nil {
		return err
	}
	return nil
}

// loadVerb reads a load.Spec from standard input and writes its load.Result.
func loadVerb(ctx context.Context, _ []string, std streams) error {
	var s load.Spec
	if err := json.NewDecoder(std.in).Decode(&s); err != nil {
		return fmt.Errorf("the load to make, as JSON on standard input: %w", err)
	}
	res, err := load.Run(ctx, s)
	if err != nil {
		return err
	}
	return json.NewEncoder(std.out).Encode(res)
}
