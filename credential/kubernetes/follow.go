// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer"
)

const (
	// A watch is ended by the server after a time between these two, as is the custom:
	// watches of many clients must not end at once.
	watchMin = 5 * time.Minute
	watchMax = 10 * time.Minute
	// watchSlack is how much later we end it ourselves.
	watchSlack = 30 * time.Second
	// steady is how long a watch must have stood for its end to be no failure.
	steady = time.Second

	backoffMin = 500 * time.Millisecond
	backoffMax = 30 * time.Second
)

// follower keeps a Secret's answer up to date: it lists once, watches from that version
// on, watches again from the last version when a watch ends or breaks off, and lists again
// when the server does not let it, as when it knows that version no more. One goroutine
// runs it.
type follower struct {
	secret  *Secret
	log     *slog.Logger
	version string // to watch from; "" where the Secret must be listed first
	fails   int    // in a row
	warned  bool   // that it is not followed
}

func (f *follower) run(ctx context.Context) {
	for ctx.Err() == nil {
		begun := time.Now()
		err := f.turn(ctx)
		if ctx.Err() != nil {
			return
		}
		f.pause(ctx, err, time.Since(begun))
	}
}

// turn lists if it must, then watches until the watch ends. Nil: it ended as watches do.
func (f *follower) turn(ctx context.Context) error {
	if f.version == "" {
		version, a := f.secret.list(ctx)
		if version == "" {
			return a.err
		}
		f.version = version
		f.secret.see(a)
	}
	return f.watch(ctx)
}

// pause waits before the next turn: not at all after a watch that has stood for a while,
// nor the first time that a version is gone.
func (f *follower) pause(ctx context.Context, err error, stood time.Duration) {
	if err == nil && stood >= steady {
		f.fails = 0
		return
	}
	if stood >= backoffMax {
		f.fails = 0
	}
	f.fails++
	if errors.Is(err, errGone) && f.fails == 1 {
		return
	}
	wait := backoff(f.fails)
	if e, ok := errors.AsType[*credential.Error](err); ok {
		wait = max(wait, min(e.RetryAfter, backoffMax))
	}
	if err != nil && !f.warned {
		f.warned = true
		f.log.Warn("secret cannot be followed, it is tried again and again", "error", err.Error())
	}
	select {
	case <-ctx.Done():
	case <-time.After(wait):
	}
}

// backoff is exponential, and jittered so that a fleet does not come back as one.
func backoff(fails int) time.Duration {
	d := backoffMin << min(fails-1, 10)
	d = min(d, backoffMax)
	return d/2 + rand.N(d)
}

// errGone: the server does not know the version any more (410).
var errGone = errors.New("the version to watch from is gone")

// watch follows the Secret from f.version on. What it cannot understand makes it list again.
func (f *follower) watch(ctx context.Context) error {
	length := watchMin + rand.N(watchMax-watchMin)
	ctx, cancel := context.WithTimeout(ctx, length+watchSlack)
	defer cancel()
	path := f.secret.path + "&watch=true&allowWatchBookmarks=true&resourceVersion=" + url.QueryEscape(f.version) +
		fmt.Sprintf("&timeoutSeconds=%d", int(length.Seconds()))
	resp, err := f.secret.client.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return issuer.Within(f.secret.where(), err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		f.version = ""
		if resp.StatusCode == http.StatusGone {
			return errGone
		}
		a := &issuer.Answer{Status: resp.StatusCode, Header: resp.Header}
		return issuer.Within(f.secret.where(), refusal(a, "watch secrets"))
	}
	f.secret.follow(true)
	defer f.secret.follow(false)
	if f.warned {
		f.warned = false
		f.log.Info("secret is followed again")
	}
	return f.events(newStream(resp.Body))
}

// events takes what a watch tells until it ends.
func (f *follower) events(s *stream) error {
	for {
		e, err := s.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fail(credential.Unreachable, "%s: the watch breaks off: %w", f.secret.where(), err)
		}
		if err := f.event(e); err != nil {
			f.version = "" // whatever it was, a list tells how it is
			return err
		}
	}
}

func (f *follower) event(e event) error {
	switch e.Type {
	case "ERROR":
		if e.status().Code == http.StatusGone {
			return errGone
		}
		return fail(credential.Unreachable, "%s: the watch ends with status %d", f.secret.where(), e.status().Code)
	case "ADDED", "MODIFIED", "DELETED", "BOOKMARK":
	default:
		return fail(credential.NotMinted, "%s: the watch tells of something that is no event", f.secret.where())
	}
	o, err := e.secret()
	if err != nil {
		return fail(credential.NotMinted, "%s: %w", f.secret.where(), err)
	}
	f.version = o.Metadata.ResourceVersion
	switch {
	case e.Type == "BOOKMARK" || !f.secret.is(o):
	case e.Type == "DELETED":
		f.secret.see(f.secret.absent())
	default:
		f.secret.see(f.secret.read(o))
	}
	return nil
}
