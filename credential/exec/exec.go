// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package exec is the provider that runs a program for a credential, as AWS SDKs do with
// credential_process: for issuers that egret does not know. The program is named by an
// absolute path, gets a list of arguments and no shell, an environment of named variables
// only, nothing on standard input, and a deadline at which it is killed with all that it
// has started. It prints one JSON object:
//
//	{"token": "...", "values": {"username": "..."}, "expiresIn": 3600}
//
// with expiresAt (RFC 3339) instead of expiresIn if it likes. What it prints is never
// logged. Its exit status says why there is no credential: ExitTemporary that asking again
// may help, ExitRefused and ExitConfig that it needs a person.
package exec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer"
)

// Exit statuses of sysexits.h that a program can use. Every other one but 0 counts as
// ExitTemporary.
const (
	ExitTemporary = 75 // EX_TEMPFAIL
	ExitRefused   = 77 // EX_NOPERM
	ExitConfig    = 78 // EX_CONFIG
)

// SPIFFEIDVariable is the environment variable that tells the program for whom it asks:
// the caller's SPIFFE ID. It is not set where the credential is shared.
const SPIFFEIDVariable = "EGRET_SPIFFE_ID"

// Bounds and defaults.
const (
	MaxOutput      = 64 << 10 // bytes on standard output
	DefaultTimeout = 10 * time.Second
	MaxTimeout     = 2 * time.Minute
	maxRunning     = 8 // programs of one provider at a time
)

// Config is fixed at load. Nothing of an application's request reaches it but the
// caller's SPIFFE ID.
type Config struct {
	Command []string // the program by its absolute path, and its arguments
	Env     []string // names of variables of egret's own environment that it gets; no others
	Values  []string // names that it prints in values besides token, for injections
	Timeout time.Duration
	// LookupEnv reads egret's environment; nil is os.LookupEnv.
	LookupEnv func(string) (string, bool)
}

// Provider implements credential.Provider. It caches nothing and retries nothing. Safe for
// concurrent use.
type Provider struct {
	cfg   Config
	slots chan struct{}
}

// New validates c, and that the program is there and in nobody's hands but root's and
// egret's own. It does not run it.
func New(c Config) (*Provider, error) {
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.LookupEnv == nil {
		c.LookupEnv = os.LookupEnv
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("exec: %w", err)
	}
	if _, err := trusted(c.Command[0]); err != nil {
		return nil, fmt.Errorf("exec: %w", err)
	}
	c.Command, c.Env, c.Values = slices.Clone(c.Command), slices.Clone(c.Env), slices.Clone(c.Values)
	return &Provider{cfg: c, slots: make(chan struct{}, maxRunning)}, nil
}

func (c *Config) check() error {
	if err := CheckCommand(c.Command); err != nil {
		return fmt.Errorf("command %q %w", c.Command, err)
	}
	for _, n := range c.Env {
		if err := CheckVariable(n); err != nil {
			return fmt.Errorf("env %q %w", n, err)
		}
	}
	for _, v := range c.Values {
		if err := CheckValue(v); err != nil {
			return fmt.Errorf("values %q %w", v, err)
		}
	}
	if c.Timeout < time.Second || c.Timeout > MaxTimeout {
		return fmt.Errorf("timeout %s must be between 1s and %s", c.Timeout, MaxTimeout)
	}
	return nil
}

// CheckCommand holds a program and its arguments to what can be run without a shell.
func CheckCommand(argv []string) error {
	if len(argv) == 0 || !filepath.IsAbs(argv[0]) {
		return errors.New("must begin with the absolute path of a program: no shell and no PATH finds it")
	}
	for _, a := range argv {
		if strings.Contains(a, "\x00") {
			return errors.New("must not hold a NUL")
		}
	}
	return nil
}

// CheckVariable holds the name of an environment variable to what the program can get.
func CheckVariable(n string) error {
	switch {
	case n == "" || strings.ContainsAny(n, "=\x00"):
		return errors.New("must be the name of a variable; its value is that of egret's own environment")
	case n == SPIFFEIDVariable:
		return errors.New("must be absent: egret sets it to the caller's SPIFFE ID")
	}
	return nil
}

// CheckValue holds the name of a value to what an injection can name.
func CheckValue(s string) error {
	if s == "token" {
		return errors.New("must be a name besides token, which is always there")
	}
	for i := range len(s) {
		if c := s[i]; !(c >= 'a' && c <= 'z' || i > 0 && (c >= '0' && c <= '9' || c == '_')) {
			return errors.New("must have lower-case letters, digits and _ only")
		}
	}
	if s == "" {
		return errors.New("must be a name")
	}
	return nil
}

// Fetch implements credential.Provider. Refused: the program says so, or is in others'
// hands by now. NotMinted: it prints nothing usable. Expired: what it prints is over.
// Unreachable: it fails otherwise, is killed, or is not done in time.
func (p *Provider) Fetch(ctx context.Context, k credential.Key, _ credential.Subject) (credential.Token, error) {
	tok, err := p.fetch(ctx, k)
	if err != nil {
		return credential.Token{}, issuer.Within(fmt.Sprintf("program %q", p.cfg.Command[0]), err)
	}
	return tok, nil
}

func (p *Provider) fetch(ctx context.Context, k credential.Key) (credential.Token, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return credential.Token{}, fail(credential.Unreachable, "%d of it are running already", maxRunning)
	}
	path, err := trusted(p.cfg.Command[0])
	if err != nil {
		return credential.Token{}, fail(credential.Refused, "%w", err)
	}
	begun := time.Now()
	res := run(ctx, program{path: path, args: p.cfg.Command, env: p.environment(k)})
	if err := p.verdict(ctx, res); err != nil {
		return credential.Token{}, err
	}
	return parse(res.out, p.cfg.Values, begun)
}

// environment is all that the program gets to see of egret's.
func (p *Provider) environment(k credential.Key) []string {
	env := []string{} // not nil, which would be egret's own
	for _, n := range p.cfg.Env {
		if v, ok := p.cfg.LookupEnv(n); ok {
			env = append(env, n+"="+v)
		}
	}
	if !k.ID.IsZero() {
		env = append(env, SPIFFEIDVariable+"="+k.ID.String())
	}
	return env
}

// verdict turns how a program ended into an error, or nil where it has succeeded. Of its
// standard error only the length is told: programs write secrets there.
func (p *Provider) verdict(ctx context.Context, r result) error {
	switch {
	case r.tooLong:
		return fail(credential.NotMinted, "it prints more than 64 KiB: killed")
	case ctx.Err() != nil:
		if errors.Is(ctx.Err(), context.Canceled) {
			return fail(credential.Unreachable, "killed: nobody waits any more")
		}
		return fail(credential.Unreachable, "not done after %s: killed; raise timeout if it needs longer", p.cfg.Timeout)
	case r.err != nil:
		return fail(credential.Refused, "cannot be run: %w", r.err)
	case r.signal != "":
		return fail(credential.Unreachable, "ended by signal %q", r.signal)
	}
	return p.exit(r)
}

func (p *Provider) exit(r result) error {
	if r.code == 0 {
		return nil
	}
	kind := credential.Unreachable
	if r.code == ExitRefused || r.code == ExitConfig {
		kind = credential.Refused
	}
	hint := ""
	if r.stderr > 0 {
		hint = fmt.Sprintf("; it wrote %d bytes to standard error, which are not shown since they may hold secrets: run it by hand, with the same environment", r.stderr)
	}
	return fail(kind, "exit status %d%s", r.code, hint)
}

func fail(k credential.Kind, format string, args ...any) *credential.Error {
	return &credential.Error{Kind: k, Err: fmt.Errorf(format, args...)}
}
