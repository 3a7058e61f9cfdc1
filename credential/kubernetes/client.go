// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/internal/durable"
	"github.com/egret-proxy/egret/internal/secret"
	"github.com/egret-proxy/egret/internal/wireerr"
)

const (
	maxToken  = 16 << 10
	maxRoots  = 1 << 20
	maxObject = 4 << 20 // a Secret has at most 1 MiB, a third more in base64, and managedFields
	maxHeader = 64 << 10

	// A connection on which nothing is heard for so long is asked for a sign of life: a
	// watch may be silent for minutes, and one that is dead must not count as followed.
	silence   = 15 * time.Second
	lifeSigns = 10 * time.Second
)

// client asks one API server. Safe for concurrent use.
type client struct {
	Cluster
	base string

	mu   sync.Mutex
	pem  []byte // what http trusts, where that is a file
	http *http.Client
}

func newClient(c Cluster) (*client, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	c.setDefaults()
	k := &client{Cluster: c, base: strings.TrimRight(c.Server, "/")}
	if c.Roots != nil {
		k.http = k.trusting(c.Roots)
	}
	return k, nil
}

// trusting builds an HTTP client that ever sees egret's token: verified, no redirects, no
// proxy of the environment, bounded.
func (k *client) trusting(roots *x509.CertPool) *http.Client {
	return &http.Client{
		// MUST T9: a redirect would carry egret's token to another place.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  k.Proxy,
			DialContext:            k.Dial,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    5 * time.Second,
			ResponseHeaderTimeout:  k.Timeout,
			MaxResponseHeaderBytes: maxHeader,
			MaxIdleConnsPerHost:    2,
			MaxConnsPerHost:        16,
			IdleConnTimeout:        30 * time.Second,
			DisableCompression:     true, // a small answer may unpack to a large one
			ForceAttemptHTTP2:      true,
			HTTP2:                  &http.HTTP2Config{SendPingTimeout: silence, PingTimeout: lifeSigns},
		},
	}
}

// client returns the HTTP client for what the file of roots holds now.
func (k *client) client() (*http.Client, error) {
	if k.RootsFile == "" {
		return k.http, nil
	}
	pem, err := readFile(k.RootsFile, maxRoots)
	if err != nil {
		return nil, fmt.Errorf("CA file %q: %w", k.RootsFile, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.http != nil && bytes.Equal(pem, k.pem) {
		return k.http, nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("CA file %q holds no certificate", k.RootsFile)
	}
	if k.http != nil {
		k.http.CloseIdleConnections()
	}
	k.pem, k.http = pem, k.trusting(roots)
	return k.http, nil
}

func (k *client) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.http != nil {
		k.http.CloseIdleConnections()
	}
}

// do sends a request and returns the answer, whatever its status. The errors are
// *credential.Error and quote nothing of the wire.
func (k *client) do(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	token, err := k.token()
	if err != nil {
		return nil, fail(credential.Unreachable, "%w", err)
	}
	c, err := k.client()
	if err != nil {
		return nil, fail(credential.Unreachable, "%w", err)
	}
	req, err := http.NewRequestWithContext(ctx, method, k.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fail(credential.Unconfigured, "the API server cannot be asked")
	}
	req.Header.Set("Authorization", "Bearer "+token.Reveal())
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "egret")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, fail(credential.Unreachable, "%w", wireerr.Wrap(unURL(err)))
	}
	return resp, nil
}

// call is do with the whole answer, within the time of one call. Its status may be any.
func (k *client) call(ctx context.Context, method, path string, body []byte) (*issuer.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, k.Timeout)
	defer cancel()
	sent := time.Now()
	resp, err := k.do(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxObject+1))
	switch {
	case err != nil:
		return nil, fail(credential.Unreachable, "the answer breaks off: %w", wireerr.Wrap(err))
	case len(b) > maxObject:
		return nil, fail(credential.NotMinted, "the answer must not be larger than 4 MiB")
	}
	if resp.Header.Get("Date") == "" { // a lifetime is counted from it
		resp.Header.Set("Date", sent.UTC().Format(http.TimeFormat))
	}
	return &issuer.Answer{Status: resp.StatusCode, Header: resp.Header, Body: b}, nil
}

// refusal words an answer that is no success. verb is what egret's account needs to be
// allowed to do.
func refusal(a *issuer.Answer, verb string) error {
	err := a.Refusal("")
	switch a.Status {
	case http.StatusUnauthorized:
		return issuer.Within("the API server does not accept egret's own token", err)
	case http.StatusForbidden:
		return issuer.Within(fmt.Sprintf("egret's service account may not %s: bind it to a Role that allows this", verb), err)
	case http.StatusNotFound:
		return issuer.Within(fmt.Sprintf("the API server knows nothing there to %s", verb), err)
	}
	return issuer.Within("the API server refuses to "+verb, err)
}

// token reads egret's own token.
func (k *client) token() (secret.Secret, error) {
	b, err := readFile(k.TokenFile, maxToken)
	if err != nil {
		return secret.Secret{}, fmt.Errorf("egret's own token %q: %w", k.TokenFile, err)
	}
	t := strings.TrimSpace(string(b))
	if t == "" || strings.ContainsFunc(t, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return secret.Secret{}, fmt.Errorf("egret's own token %q holds no token", k.TokenFile)
	}
	return secret.New(t), nil
}

// readFile refuses a pipe or device before it is opened, since that could block for ever.
func readFile(path string, limit int64) ([]byte, error) {
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, durable.Unpath(err)
	case !st.Mode().IsRegular():
		return nil, errors.New("must be a regular file")
	case st.Size() > limit:
		return nil, fmt.Errorf("must not be larger than %d KiB", limit>>10)
	}
	b, err := os.ReadFile(path)
	return b, durable.Unpath(err)
}

// unURL drops the *url.Error, whose text holds the URL.
func unURL(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		return ue.Err
	}
	return err
}

func fail(k credential.Kind, format string, args ...any) *credential.Error {
	return &credential.Error{Kind: k, Err: fmt.Errorf(format, args...)}
}
