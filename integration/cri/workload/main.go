// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Command workload is all that there is in the pods of integration/cri: a program that
// knows of no proxy.
//
//	workload pause              waits for SIGTERM
//	workload call URL           prints status and body of one GET
//	workload hammer URL FILE    GETs for ever, each by a connection of its own, and writes a line to FILE for each
//	workload stream URL FILE    one GET that does not end, whose lines go to FILE
//
// The last two begin when there is a file FILE.go.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Where the tests mount the CA, and where the SaaS is, whatever its name.
const (
	trust  = "/trust/ca.pem"
	atAddr = "SAAS_ADDRESS"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // the process ends
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "pause":
		<-ctx.Done()
		return nil
	case len(args) == 2 && args[0] == "call":
		return get(ctx, args[1], os.Stdout)
	case len(args) == 3 && args[0] == "hammer":
		return to(args[2], func(w io.Writer) error { return hammer(ctx, args[1], w) })
	case len(args) == 3 && args[0] == "stream":
		return to(args[2], func(w io.Writer) error { return get(ctx, args[1], w) })
	}
	return fmt.Errorf("workload: bad arguments %q", args)
}

func to(file string, f func(io.Writer) error) error {
	for {
		if _, err := os.Stat(file + ".go"); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond) //nolint:forbidigo // nothing tells
	}
	w, err := os.Create(file) //nolint:gosec // named by the tests
	if err != nil {
		return err
	}
	return errors.Join(f(w), w.Close())
}

func hammer(ctx context.Context, url string, w io.Writer) error {
	for ctx.Err() == nil {
		line := "ok"
		if err := get(ctx, url, io.Discard); err != nil {
			line = "failed: " + err.Error()
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
		time.Sleep(10 * time.Millisecond) //nolint:forbidigo // load, not waiting
	}
	return nil
}

// get makes a request by a connection of its own. An answer that is no success is an error.
func get(ctx context.Context, url string, w io.Writer) error {
	pem, err := os.ReadFile(trust)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 20 * time.Second}).DialContext(ctx, network, os.Getenv(atAddr))
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
		return fmt.Errorf("%s: %s", resp.Status, text)
	}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if _, err := fmt.Fprintln(w, lines.Text()); err != nil {
			return err
		}
	}
	return nil
}
