// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Client is the program of pods that have none of their own: it waits, and makes requests
// when it is called with them. It reads nothing but what Go's client reads itself.
//
//	client                   waits until it is told to end; also the first process of pods
//	client METHOD URL...     prints the status, the decision and the answer of each
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) < 3 {
		<-ctx.Done()
		return
	}
	for _, url := range os.Args[2:] {
		if err := call(ctx, os.Args[1], url); err != nil {
			fmt.Println("error:", err)
		}
	}
}

// maxAnswer bounds what is shown of an answer.
const maxAnswer = 16 << 10

func call(ctx context.Context, method, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return err
	}
	fmt.Printf("status: %d\ndecision: %s\n%s\n", answer.StatusCode, answer.Header.Get("Egret-Decision"), body)
	return nil
}
