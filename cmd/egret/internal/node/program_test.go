// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// asProgram makes a copy of the test binary a program that asks for one URL through a
// listener: METHOD URL NETWORK ADDRESS, with the bundle on its standard input.
const asProgram = "EGRET_TEST_PROGRAM"

// perform is that program.
func perform() {
	words := strings.Fields(os.Getenv(asProgram))
	bundle, _ := io.ReadAll(os.Stdin)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	c := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		Proxy:           http.ProxyURL(&url.URL{Scheme: "http", Host: "egret.invalid:1"}),
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, words[2], words[3])
		},
	}}
	var body io.Reader
	if words[0] == http.MethodPost {
		body = strings.NewReader(`{"channel":"C0QA000001","text":"done"}`)
	}
	r, err := http.NewRequest(words[0], words[1], body)
	if err != nil {
		fmt.Println(err)
		return
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(r)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	fmt.Println(resp.Status, resp.Header.Get("Egret-Decision"), string(b))
}
