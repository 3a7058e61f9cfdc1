// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package static

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/egret-proxy/egret/credential"
)

// Slots rotates a key without a gap: the next key is used from a time on, as soon as it
// is there, and the current one again if the SaaS refuses it. So both are valid for a
// while, and neither order of putting the new key here and enabling it at the SaaS can
// cut anybody off. It implements credential.Provider, Notifier, Resumer and Refuser. Safe
// for concurrent use. Close it.
type Slots struct {
	current, next *Provider
	from          time.Time // the next key is not used before
	log           *slog.Logger
	changes       chan struct{}
	wg            sync.WaitGroup
	once          sync.Once

	mu      sync.Mutex
	refused string // fingerprint of the next key, where the SaaS has refused it
}

// NewSlots makes one of two keys, which belong to it from then on. Make next with
// Options.Next. from may be zero.
func NewSlots(current, next *Provider, from time.Time, log *slog.Logger) *Slots {
	s := &Slots{current: current, next: next, from: from, log: Options{Logger: log}.logger(), changes: make(chan struct{}, 1)}
	for _, p := range []*Provider{current, next} {
		s.wg.Go(func() {
			for range p.Changes() {
				select {
				case s.changes <- struct{}{}:
				default: // one is waiting to be received already
				}
			}
		})
	}
	return s
}

// Fetch implements credential.Provider.
func (s *Slots) Fetch(ctx context.Context, k credential.Key, c credential.Subject) (credential.Token, error) {
	wait := time.Until(s.from)
	if wait <= 0 {
		tok, err := s.next.Fetch(ctx, k, c)
		if err == nil && !s.isRefused(tok.Fingerprint) {
			return tok, nil
		}
	}
	tok, err := s.current.Fetch(ctx, k, c)
	if wait > 0 && err == nil {
		tok.Lifetime = wait // the next one is looked for then
	}
	return tok, err
}

func (s *Slots) isRefused(fingerprint string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused == fingerprint
}

// Refused implements credential.Refuser. A next key that was refused is not used again
// until the file holds another, or these Slots are made anew: at a restart or a reload.
func (s *Slots) Refused(_ credential.Key, fingerprint string) {
	v, err := s.next.Value()
	if err != nil || v.Fingerprint() != fingerprint || s.isRefused(fingerprint) {
		return
	}
	s.mu.Lock()
	s.refused = fingerprint
	s.mu.Unlock()
	s.log.Error("the next key was refused by the SaaS: the current one is used again", "fingerprint", fingerprint,
		"hint", "check that the next key is enabled there, then write it anew")
}

// Resumes implements credential.Resumer. The current key is not resumed where there is a
// next one, even if that was refused: a Slots made anew does not know of it.
func (s *Slots) Resumes(fingerprint string) bool {
	if s.next.first != "" && time.Until(s.from) <= 0 {
		return s.next.Resumes(fingerprint)
	}
	return s.current.Resumes(fingerprint)
}

// Changes implements credential.Notifier.
func (s *Slots) Changes() <-chan struct{} { return s.changes }

// Close closes both keys, and the channel of Changes.
func (s *Slots) Close() (err error) {
	s.once.Do(func() {
		err = errors.Join(s.current.Close(), s.next.Close())
		s.wg.Wait()
		close(s.changes)
	})
	return err
}
