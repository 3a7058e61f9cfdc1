// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// Spec is one Credential object, compiled: how its value is got and where it goes.
// Generation must change with everything that Provider and Inject were made from, the
// content of root files included.
type Spec struct {
	Name       string
	Generation string
	Provider   Provider    // closed by the Cache when it is an io.Closer
	Owned      []io.Closer // closed with it: the secrets that it follows
	Inject     []Injection
	TTL        time.Duration // where the issuer tells no lifetime; zero: an hour
	Shared     bool          // one value for all workloads
	AsSelf     bool          // got with egret's own identity
	Bare       bool          // the client certificate is the credential: there may be nothing to put in
	Rate       Rate
}

// Validate reports what makes a Spec useless or dangerous.
func (s Spec) Validate() error {
	switch {
	case s.Name == "" || s.Generation == "":
		return errors.New("credential needs a name and a generation")
	case s.Provider == nil:
		return fmt.Errorf("credential %q has no provider", s.Name)
	case s.TTL < 0 || s.TTL > maxLifetime:
		return fmt.Errorf("credential %q: ttl %s must be between 0 and %s", s.Name, s.TTL, maxLifetime)
	}
	return s.validateInject()
}

// validateInject refuses two entries that would write one place of one host.
func (s Spec) validateInject() error {
	sets := 0
	for i, a := range s.Inject {
		if !a.sets() {
			continue
		}
		sets++
		for _, b := range s.Inject[:i] {
			if samePlace(a, b) && overlap(a.hosts, b.hosts) {
				return fmt.Errorf("credential %q: two entries of inject set %s for the same host", s.Name, a.place())
			}
		}
	}
	if sets == 0 && !s.Bare {
		return fmt.Errorf("credential %q: inject puts the value nowhere: set one of header, basic and query", s.Name)
	}
	return nil
}

// samePlace reports whether one entry would undo the other.
func samePlace(a, b Injection) bool {
	return a.header != "" && sameName(a.header, b.header) || a.query != "" && sameName(a.query, b.query) || a.signer != nil && b.signer != nil
}

func overlap(a, b []string) bool {
	if len(a) == 0 || len(b) == 0 {
		return true
	}
	for _, x := range a {
		for _, y := range b {
			if x == y || hostMatches(x, y) || hostMatches(y, x) {
				return true
			}
		}
	}
	return false
}

// specKey names a Spec: what a Key says about configuration.
type specKey struct{ name, generation string }

func (k Key) spec() specKey { return specKey{k.Provider, k.Generation} }

// spec is an installed Spec. Its changing fields are guarded by Cache.mu.
type spec struct {
	Spec
	install int // sequence number of the Install that brought it
	limiter limiter
	epoch   int // counts changes that the Notifier told
	retired bool
	stop    chan struct{} // closed when retired
}

func newSpec(s Spec, install int) *spec {
	return &spec{Spec: s, install: install, limiter: newLimiter(s.Rate), stop: make(chan struct{})}
}

// Close closes the provider and then what it owns. The Cache does so for specs that are
// installed.
func (s Spec) Close() error {
	var err error
	if c, ok := s.Provider.(io.Closer); ok {
		err = c.Close()
	}
	for _, c := range s.Owned {
		err = errors.Join(err, c.Close())
	}
	return err
}
