// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package oauth2

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/egret-proxy/egret/credential"
)

// A token endpoint that sends the client secret back where HTTP has no place for it gets
// it into the errors of net/http, but into nothing that egret writes.
func TestMUST_C9_MalformedAnswersAreNotQuoted(t *testing.T) {
	for name, wire := range map[string]string{
		"status code":       "HTTP/1.1 %s\r\n\r\n",
		"status line":       "%s\r\n\r\n",
		"header line":       "HTTP/1.1 200 OK\r\n%s\r\n\r\n",
		"content length":    "HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n",
		"transfer encoding": "HTTP/1.1 200 OK\r\nTransfer-Encoding: %s\r\n\r\n",
		"trailer":           "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n%s\r\n\r\n",
	} {
		s := newServer(t, ClientSecretPost)
		raw := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_, _ = fmt.Fprintf(c, wire, "hush+secret")
		}))
		raw.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
		raw.StartTLS()
		t.Cleanup(raw.Close)
		var log bytes.Buffer
		p := s.provider(func(c *Config) {
			c.TokenURL = raw.URL
			c.Roots = raw.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs //nolint:forcetypeassert // httptest's own
			c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		})
		_, err := p.Fetch(t.Context(), credential.Key{}, nil)
		wantError(t, err, credential.Unreachable)
		if text := fmt.Sprint(err, log.String()); strings.Contains(text, "hush") || !strings.Contains(text, "the peer") {
			t.Errorf("%s: %s", name, text)
		}
	}
}
