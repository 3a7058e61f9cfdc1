// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	api "github.com/egret-proxy/egret/api/v1alpha1"
	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/github"
	"github.com/egret-proxy/egret/internal/secret"
)

func (b *builder) github(p *api.GitHubProvider) (credential.Provider, error) {
	to, err := b.issuer(p.Endpoint)
	if err != nil {
		return nil, err
	}
	v, err := github.New(github.Config{
		BaseURL: p.BaseURL, AppID: p.AppID, InstallationID: p.InstallationID,
		Repositories: p.Repositories, RepositoryIDs: p.RepositoryIDs, Permissions: p.Permissions,
		Signer: github.NewKey(b.pem(p.PrivateKey)), Issuer: to,
	})
	if err != nil {
		return nil, err // not v, which would be a provider that is a nil pointer
	}
	return v, nil
}

// pem reads a key, which has several lines, where the object says that it is: for every
// use, so that a rotation is seen at once.
func (b *builder) pem(s *api.SecretSource) func() (secret.Secret, error) {
	path := s.File
	switch {
	case s.Env != "":
		return func() (secret.Secret, error) {
			text, _ := b.opt.LookupEnv(s.Env)
			return keyText([]byte(text), fmt.Sprintf("environment variable %q", s.Env))
		}
	case s.SystemdCredential != "":
		dir, _ := b.opt.LookupEnv("CREDENTIALS_DIRECTORY")
		path = filepath.Join(dir, s.SystemdCredential)
	}
	return func() (secret.Secret, error) {
		text, err := readKey(path)
		if err != nil {
			return secret.Secret{}, &credential.Error{Kind: credential.Unreachable, Err: fmt.Errorf("file %q: %w", path, err)}
		}
		defer clear(text)
		return keyText(text, fmt.Sprintf("file %q", path))
	}
}

func readKey(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err == nil && (!st.Mode().IsRegular() || st.Size() > int64(maxSecretBytes)) {
		return nil, errors.New("must be a regular file of at most 1 MiB")
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(path)
	}
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, pe.Err
	}
	return text, err
}

func keyText(text []byte, where string) (secret.Secret, error) {
	if len(text) == 0 {
		return secret.Secret{}, &credential.Error{Kind: credential.NotMinted, Err: fmt.Errorf("%s is empty", where)}
	}
	return secret.New(string(text)), nil
}
