// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/coder/websocket"
)

// get prints the answer of one GET.
func get(ctx context.Context, args []string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, args[0], http.NoBody)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	show(answer)
	_, err = io.Copy(os.Stdout, answer.Body)
	return err
}

func show(answer *http.Response) {
	fmt.Println("status:", answer.StatusCode)
	fmt.Println("decision:", answer.Header.Get("Egret-Decision"))
}

// websocketEcho sends one message and prints what comes back.
func websocketEcho(ctx context.Context, args []string) error {
	c, answer, err := websocket.Dial(ctx, args[0], nil)
	if err != nil {
		if answer != nil {
			show(answer)
		}
		return err
	}
	defer func() { _ = c.CloseNow() }()
	if err := c.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
		return err
	}
	_, text, err := c.Read(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("echo: %s\n", text)
	return c.Close(websocket.StatusNormalClosure, "")
}
