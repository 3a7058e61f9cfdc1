// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/aws/sigv4"
	"github.com/egret-proxy/egret/internal/secret"
)

// Stored is a secret that may change. credential/static has it.
type Stored interface {
	Value() (secret.Secret, error)
	Changes() <-chan struct{} // closed by Close
	Close() error
}

// StaticConfig holds where the keys are. SessionToken may be nil.
type StaticConfig struct{ AccessKeyID, SecretAccessKey, SessionToken Stored }

func (c *StaticConfig) all() []Stored {
	list := []Stored{c.AccessKeyID, c.SecretAccessKey}
	if c.SessionToken != nil {
		list = append(list, c.SessionToken)
	}
	return list
}

// Static implements credential.Provider and credential.Notifier with keys that egret
// holds, for stores that speak S3 and have no other. It owns the secrets. Close it.
type Static struct {
	cfg     StaticConfig
	changes chan struct{}
	done    sync.WaitGroup
}

// NewStatic follows the secrets from now on.
func NewStatic(c StaticConfig) (*Static, error) {
	if c.AccessKeyID == nil || c.SecretAccessKey == nil {
		return nil, errors.New("aws: static keys need accessKeyID and secretAccessKey")
	}
	p := &Static{cfg: c, changes: make(chan struct{}, 1)}
	for _, s := range c.all() {
		p.done.Go(func() { p.follow(s.Changes()) })
	}
	return p, nil
}

func (p *Static) follow(changes <-chan struct{}) {
	for range changes {
		select {
		case p.changes <- struct{}{}:
		default: // one that is not taken yet says it all
		}
	}
}

// Fetch implements credential.Provider. The keys are read one after the other: where all
// change, a half of an old pair may be read, which is read again with the next change.
func (p *Static) Fetch(context.Context, credential.Key, credential.Subject) (credential.Token, error) {
	var texts [3]secret.Secret
	for i, s := range p.cfg.all() {
		v, err := s.Value()
		if err != nil {
			return credential.Token{}, &credential.Error{Kind: credential.Unreachable, Err: fmt.Errorf("static keys: %w", err)}
		}
		texts[i] = v
	}
	keys := sigv4.Keys{AccessKeyID: strings.TrimSpace(texts[0].Reveal()), SecretAccessKey: texts[1], SessionToken: texts[2]}
	return token(keys, 0, 0)
}

// Changes implements credential.Notifier.
func (p *Static) Changes() <-chan struct{} { return p.changes }

// Close closes the secrets.
func (p *Static) Close() error {
	var err error
	for _, s := range p.cfg.all() {
		err = errors.Join(err, s.Close())
	}
	p.done.Wait()
	close(p.changes)
	return err
}
