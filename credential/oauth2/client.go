// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package oauth2

import (
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

// newClient builds the only HTTP client that ever sees client credentials: https by
// construction of the URL, verified, no redirects, no proxy of the environment, bounded.
func newClient(c Config) *http.Client {
	dial := c.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: 3 * time.Second}).DialContext
	}
	return &http.Client{
		// MUST T9: a redirect would carry the client's secret to another place.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  c.Proxy,
			DialContext:            dial,
			TLSClientConfig:        &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    5 * time.Second,
			MaxResponseHeaderBytes: maxBody,
			MaxIdleConns:           4,
			MaxIdleConnsPerHost:    4,
			MaxConnsPerHost:        16,
			IdleConnTimeout:        30 * time.Second,
			DisableCompression:     true, // a small answer may unpack to a large one
			ForceAttemptHTTP2:      true,
		},
	}
}
