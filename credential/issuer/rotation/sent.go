// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"

	"github.com/egret-proxy/egret/credential"
)

// Watch lets an Asker know whether anything of its request has left: sent reports false
// where no issuer can have seen it.
func Watch(ctx context.Context) (watched context.Context, sent func() bool) {
	var left atomic.Bool
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaderField: func(string, []string) { left.Store(true) },
		WroteHeaders:     func() { left.Store(true) },
		WroteRequest:     func(httptrace.WroteRequestInfo) { left.Store(true) },
	}), left.Load
}

// Untouched marks an error after which the refresh token works as before.
func Untouched(err error) error { return marked(ErrUntouched, err) }

// Spent marks an error by which the issuer refuses the refresh token.
func Spent(err error) error { return marked(ErrSpent, err) }

func marked(as, err error) error {
	e, ok := errors.AsType[*credential.Error](err)
	if !ok {
		return unreachable("asking the issuer", fmt.Errorf("%w (%w)", err, as))
	}
	return &credential.Error{Kind: e.Kind, RetryAfter: e.RetryAfter, Err: fmt.Errorf("%w (%w)", e.Err, as)}
}

// Busy reports a status by which an issuer says that it has not begun. Other failures of
// a server, and of gateways before it, leave open what was done.
func Busy(status int) bool {
	return status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable || status == http.StatusRequestTimeout
}
