// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/internal/durable"
	"github.com/egret-proxy/egret/internal/secret"
)

// nameOf tells wrapping tokens apart without keeping them.
func nameOf(token secret.Secret) string {
	sum := sha256.Sum256([]byte(token.Reveal()))
	return hex.EncodeToString(sum[:])
}

// kept is the form of the state file; values are by key of the secret. It holds secrets:
// only egret's user may read it.
type kept struct {
	By     string            `json:"by"`
	Values map[string]string `json:"values"`
	Ends   *time.Time        `json:"ends,omitempty"`
}

const maxState = 1 << 20

// recall reads once what an egret before this one has opened. The caller holds opened.mu.
func (p *Provider) recall() error {
	if p.opened.loaded {
		return nil
	}
	path := p.cfg.Unwrap.State
	k, err := readState(path)
	if err != nil {
		return fail(credential.Unreachable, "state file %q: %w", path, err)
	}
	p.opened.loaded = true
	values := make(map[string]secret.Secret, len(p.cfg.Keys))
	for name, key := range p.cfg.Keys {
		if k.Values[key] == "" {
			return nil // of another configuration, or none
		}
		values[name] = secret.New(k.Values[key])
	}
	p.opened.content = content{by: k.By, values: values}
	if k.Ends != nil {
		p.opened.ends = *k.Ends
	}
	return nil
}

func readState(path string) (kept, error) {
	var k kept
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	switch {
	case err != nil:
		return k, durable.Unpath(err)
	case !st.Mode().IsRegular() || st.Size() > maxState:
		return k, errors.New("must be a regular file of at most 1 MiB")
	case st.Mode().Perm()&0o077 != 0:
		return k, errors.New("must be readable by egret's user only: chmod 600")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return k, durable.Unpath(err)
	}
	if json.Unmarshal(text, &k) != nil { // its error would quote
		return k, errors.New("is not one of egret's: remove it, and put a new wrapping token in place")
	}
	return k, nil
}

// state is a file that will replace the one at path.
type state struct {
	path string
	temp *os.File
}

// newState fails where nothing can be written there, before anything is lost by it.
func newState(path string) (*state, error) {
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return nil, durable.Unpath(err)
	}
	return &state{path: path, temp: temp}, nil
}

// keep writes c for good.
func (s *state) keep(c content, keys map[string]string) error {
	k := kept{By: c.by, Values: make(map[string]string, len(c.values))}
	for name, v := range c.values {
		k.Values[keys[name]] = v.Reveal()
	}
	if !c.ends.IsZero() {
		k.Ends = &c.ends
	}
	text, err := json.Marshal(k)
	if err == nil {
		_, err = s.temp.Write(text)
	}
	if err == nil {
		err = s.temp.Sync()
	}
	if err == nil {
		err = os.Rename(s.temp.Name(), s.path)
	}
	if err == nil {
		err = durable.SyncDir(filepath.Dir(s.path))
	}
	return durable.Unpath(err)
}

// discard removes what was not kept.
func (s *state) discard() {
	_ = s.temp.Close()
	_ = os.Remove(s.temp.Name()) // gone where it was kept
}
