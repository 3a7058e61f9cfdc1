// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
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
	rpc := f.String("grpc", "", "where to serve gRPC; default: nowhere")
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
	return serve(ctx, origin.New(strings.TrimSpace(string(secret))), pair, []string{*address, *rpc}, std.out)
}

// serve listens at the addresses for HTTPS and, if there is one, for gRPC, and says
// where.
func serve(ctx context.Context, o *origin.Origin, pair tls.Certificate, addresses []string, out io.Writer) error {
	said := "listening"
	var listeners []net.Listener
	for _, a := range addresses {
		if a == "" {
			continue
		}
		l, err := net.Listen("tcp", a)
		if err != nil {
			return err
		}
		listeners = append(listeners, l)
		said += " " + l.Addr().String()
	}
	s := o.Server(pair)
	context.AfterFunc(ctx, func() { _ = s.Close() })
	if len(listeners) > 1 {
		g := o.GRPCServer(pair)
		context.AfterFunc(ctx, g.Stop)
		go func() { _ = g.Serve(listeners[1]) }() // ends with Stop; the load would show any other end
	}
	if _, err := fmt.Fprintln(out, said); err != nil {
		return err
	}
	if err := s.ServeTLS(listeners[0], "", ""); ctx.Err() == nil {
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
