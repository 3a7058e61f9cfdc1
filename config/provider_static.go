// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"time"

	api "github.com/egret-proxy/egret/api/v1alpha1"
	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/static"
)

func (b *builder) static(p *api.StaticProvider) (credential.Provider, error) {
	s, err := b.opt.stored(&p.Value, p.Username)
	if err != nil {
		return nil, err // not s, which would be a provider that is a nil pointer
	}
	if p.Next == nil {
		return s, nil
	}
	from, err := time.Parse(time.RFC3339, p.Next.From)
	if err != nil && p.Next.From != "" {
		return nil, errors.Join(err, s.Close())
	}
	next, err := static.File(p.Next.File, static.Options{Username: p.Username, Logger: b.opt.Logger, Next: true})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return static.NewSlots(s, next, from, b.opt.Logger), nil
}

// stored follows a secret where the object says that it is.
func (opt BuildOptions) stored(s *api.SecretSource, username string) (*static.Provider, error) {
	o := static.Options{Username: username, Logger: opt.Logger}
	switch {
	case s.File != "":
		return static.File(s.File, o)
	case s.SystemdCredential != "":
		dir, _ := opt.LookupEnv("CREDENTIALS_DIRECTORY")
		return static.Systemd(dir, s.SystemdCredential, o)
	}
	return static.Env(s.Env, opt.LookupEnv, o)
}
