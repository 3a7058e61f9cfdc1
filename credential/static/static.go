// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package static is the provider of long-lived keys that egret itself holds: from a
// file, a systemd credential or a variable of egret's own environment. It follows a
// file when it changes, symbolic links included (that is how Kubernetes and certificate
// agents swap them). It knows no issuer and tells no lifetime.
package static

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/internal/durable"
	"github.com/egret-proxy/egret/internal/secret"
)

// MaxSize is the most that a secret may hold, in bytes.
const MaxSize = 64 << 10

// Options are common to all sources of a static key.
type Options struct {
	Username string        // for {username} in Basic injections; may be empty
	Poll     time.Duration // how often a file is looked at, more or less; default 3 s
	Logger   *slog.Logger  // nil: silent
	Next     bool          // the next key of a rotation: that its file goes away is how a rotation ends
}

// Provider serves one key. It implements credential.Provider, Notifier, which tells of
// changes where the key is a file, and Resumer. Safe for concurrent use. Close it.
type Provider struct {
	username string
	read     func() (secret.Secret, error)
	first    string // fingerprint of what was read before the following began; empty: nothing
	changes  chan struct{}
	stop     func()
	once     sync.Once
	done     chan struct{}
}

// File serves the content of a file, without trailing line ends, and follows it
// by looking at it every few seconds, which costs no descriptor. The file's folder must exist; the file itself may come later. A file that others can read
// is warned about.
func File(path string, o Options) (*Provider, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("secret file %q: %w", path, err)
	}
	p := newProvider(o, func() (secret.Secret, error) { return readFile(path) })
	w, err := newWatcher(path, p, o)
	if err != nil {
		return nil, fmt.Errorf("secret file %q cannot be followed: %w", path, err)
	}
	warnMode(path, o.logger())
	p.stop, p.first = w.stop, w.last.Fingerprint()
	go w.run()
	return p, nil
}

// Systemd serves the credential name of the folder that systemd gave the unit
// ($CREDENTIALS_DIRECTORY). systemd does not change it while the unit runs.
func Systemd(dir, name string, o Options) (*Provider, error) {
	if dir == "" {
		return nil, fmt.Errorf("systemd credential %q: the unit has no credentials: add LoadCredential=%s:PATH to it", name, name)
	}
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return nil, fmt.Errorf("systemd credential %q must be a plain file name", name)
	}
	path := filepath.Join(dir, name)
	return newProvider(o, func() (secret.Secret, error) { return readFile(path) }).unfollowed(), nil
}

// Env serves a variable of egret's environment, which lookup reads (os.LookupEnv).
func Env(name string, lookup func(string) (string, bool), o Options) (*Provider, error) {
	if name == "" || strings.ContainsAny(name, "=\x00") {
		return nil, fmt.Errorf("environment variable %q must be a name", name)
	}
	read := func() (secret.Secret, error) {
		v, ok := lookup(name)
		if !ok {
			return secret.Secret{}, fail(credential.Unreachable, "environment variable %q is not set", name)
		}
		return parse([]byte(v), fmt.Sprintf("environment variable %q", name))
	}
	return newProvider(o, read).unfollowed(), nil
}

func (o Options) logger() *slog.Logger {
	if o.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Logger
}

func newProvider(o Options, read func() (secret.Secret, error)) *Provider {
	return &Provider{
		username: o.Username, read: read, stop: func() {},
		changes: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// unfollowed marks p as having no goroutine to wait for.
func (p *Provider) unfollowed() *Provider {
	close(p.done)
	if v, err := p.read(); err == nil {
		p.first = v.Fingerprint()
	}
	return p
}

// Value reads the key now. The errors are those of Fetch. It lets a loader find a
// missing file early, and lets other providers follow a client secret.
func (p *Provider) Value() (secret.Secret, error) { return p.read() }

// Fetch implements credential.Provider: "token" is the key, "username" the user name.
// Unreachable: it cannot be read; NotMinted: it is empty, too large or not text.
func (p *Provider) Fetch(ctx context.Context, _ credential.Key, _ credential.Subject) (credential.Token, error) {
	if err := ctx.Err(); err != nil {
		return credential.Token{}, &credential.Error{Kind: credential.Unreachable, Err: err}
	}
	v, err := p.read()
	if err != nil {
		return credential.Token{}, err
	}
	values := map[string]secret.Secret{"token": v}
	if p.username != "" {
		values["username"] = secret.New(p.username)
	}
	return credential.Token{Values: values, Fingerprint: v.Fingerprint()}, nil
}

// Changes implements credential.Notifier.
func (p *Provider) Changes() <-chan struct{} { return p.changes }

// Resumes implements credential.Resumer.
func (p *Provider) Resumes(fingerprint string) bool { return p.first != "" && p.first == fingerprint }

// Close ends the following and closes the channel of Changes.
func (p *Provider) Close() error {
	p.once.Do(func() {
		p.stop()
		<-p.done
		close(p.changes)
	})
	return nil
}

func fail(k credential.Kind, format string, args ...any) error {
	return &credential.Error{Kind: k, Err: fmt.Errorf(format, args...)}
}

func readFile(path string) (secret.Secret, error) {
	b, err := readBounded(path)
	if err != nil {
		return secret.Secret{}, fail(credential.Unreachable, "secret file %q: %w", path, durable.Unpath(err))
	}
	return parse(b, fmt.Sprintf("secret file %q", path))
}

// readBounded reads at most one byte more than allowed. A pipe or device is refused
// before it is opened, since that could block for ever.
func readBounded(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, errors.New("must be a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	return io.ReadAll(io.LimitReader(f, MaxSize+1))
}

func parse(b []byte, what string) (secret.Secret, error) {
	if len(b) > MaxSize {
		return secret.Secret{}, fail(credential.NotMinted, "%s must not be larger than 64 KiB", what)
	}
	b = bytes.TrimRight(b, "\r\n")
	switch {
	case len(b) == 0:
		return secret.Secret{}, fail(credential.NotMinted, "%s is empty", what)
	case bytes.ContainsAny(b, "\r\n\x00"):
		return secret.Secret{}, fail(credential.NotMinted, "%s must be one line of text: only the last line end is cut", what)
	}
	return secret.New(string(b)), nil
}

func warnMode(path string, log *slog.Logger) {
	if st, err := os.Stat(path); err == nil && st.Mode().Perm()&0o004 != 0 {
		log.Warn("secret file can be read by every user of the machine", "path", path, "mode", st.Mode().Perm().String(), "hint", "chmod o-r")
	}
}
