// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package issuer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/internal/wireerr"
)

// Answer is what an issuer said, read to its end.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte // never to be quoted

	sent time.Time // zero: not by Ask
}

// Ask sends a request, which must be https, and reads the answer, within the time of one
// call. cert, if not nil, is presented to the issuer, on a connection of its own. Errors
// are *credential.Error: Unreachable, NotMinted for an answer that is too large,
// Unconfigured for a URL that is not https.
func (c *Client) Ask(req *http.Request, cert *tls.Certificate) (*Answer, error) {
	if req.URL.Scheme != "https" {
		return nil, fail(credential.Unconfigured, errors.New("an issuer must be asked over https"))
	}
	ctx, cancel := context.WithTimeout(req.Context(), c.timeout)
	defer cancel()
	ask := c.http
	if cert != nil {
		own := c.presenting(cert)
		defer own.CloseIdleConnections()
		ask = client(own)
	}
	req = req.Clone(ctx)
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "egret")
	}
	a, err := c.ask(ask, req)
	if err != nil {
		return nil, Within(req.URL.Host, err)
	}
	return a, nil
}

func (c *Client) ask(by *http.Client, req *http.Request) (*Answer, error) {
	sent := time.Now()
	resp, err := by.Do(req)
	if err != nil {
		return nil, fail(credential.Unreachable, wireerr.Wrap(unURL(err)))
	}
	defer resp.Body.Close()
	c.checkClock(req.URL.Host, resp.Header.Get("Date"), sent)
	body, err := io.ReadAll(io.LimitReader(resp.Body, c.maxBody+1))
	if err == nil { // a server that sees us go may end its answer well, in the middle
		err = req.Context().Err()
	}
	switch {
	case err != nil:
		return nil, fail(credential.Unreachable, fmt.Errorf("answer breaks off: %w", wireerr.Wrap(err)))
	case int64(len(body)) > c.maxBody:
		return nil, NotMinted("answer must not be larger than %d KiB", c.maxBody>>10)
	}
	return &Answer{Status: resp.StatusCode, Header: resp.Header, Body: body, sent: sent}, nil
}

// PostForm asks with a form in the body, as OAuth does. header, which may be nil, is
// added; its names are canonical.
func (c *Client) PostForm(ctx context.Context, to string, form url.Values, header http.Header) (*Answer, error) {
	return c.post(ctx, to, content{"application/x-www-form-urlencoded", form.Encode()}, header)
}

// PostJSON asks with a JSON text in the body. header is that of PostForm.
func (c *Client) PostJSON(ctx context.Context, to, body string, header http.Header) (*Answer, error) {
	return c.post(ctx, to, content{"application/json", body}, header)
}

func (c *Client) post(ctx context.Context, to string, what content, header http.Header) (*Answer, error) {
	req, err := what.request(ctx, to)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	return c.Ask(req, nil)
}

// FormRequest is what PostForm sends, for a caller that presents a certificate with Ask.
func FormRequest(ctx context.Context, to string, form url.Values) (*http.Request, error) {
	return content{"application/x-www-form-urlencoded", form.Encode()}.request(ctx, to)
}

type content struct{ kind, body string }

func (b content) request(ctx context.Context, to string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(b.body))
	if err != nil {
		return nil, fail(credential.Unconfigured, errors.New("the issuer's URL cannot be asked"))
	}
	req.Header.Set("Content-Type", b.kind)
	req.Header.Set("Accept", "application/json")
	return req, nil
}

// checkClock warns about a clock that differs: an assertion or certificate would be
// refused for it. Lifetimes are relative and do not depend on it.
func (c *Client) checkClock(host, date string, sent time.Time) {
	t, err := http.ParseTime(date)
	if err != nil {
		return
	}
	if d := t.Sub(sent).Round(time.Second); d.Abs() > time.Minute {
		c.log.Warn("clock differs from that of the issuer", "host", host, "ahead", d.String())
	}
}

// unURL drops the *url.Error, whose text holds the URL with its query.
func unURL(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		return ue.Err
	}
	return err
}
