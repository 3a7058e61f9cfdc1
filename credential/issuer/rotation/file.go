// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/internal/durable"
	"github.com/egret-proxy/egret/internal/secret"
)

const maxState = 64 << 10

// File is the Store in a file, which replicas can share by a folder. A person sets it up,
// and mends it, by writing the bare refresh token into it; from then on it is egret's.
type File struct{ path string }

// NewFile names the file. It must exist when it is loaded first.
func NewFile(path string) *File { return &File{path: path} }

// stored is the form in the file.
type stored struct {
	Version  int       `json:"version"`
	Refresh  string    `json:"refresh_token"`
	Access   string    `json:"access_token,omitempty"`
	Obtained time.Time `json:"obtained,omitzero"`
	Expires  time.Time `json:"expires,omitzero"`
	Asked    time.Time `json:"asked,omitzero"`
	Spent    bool      `json:"spent,omitempty"`
}

const version = 1

// Load implements Store. NotMinted: what is there is not a state. Unreachable: it cannot
// be read.
func (f *File) Load(context.Context) (State, error) {
	b, err := f.read()
	if err != nil {
		return State{}, &credential.Error{Kind: credential.Unreachable, Err: fmt.Errorf("state file %q: %w", f.path, durable.Unpath(err))}
	}
	s, err := parse(b)
	if err != nil {
		return State{}, &credential.Error{Kind: credential.NotMinted, Err: fmt.Errorf("state file %q %w", f.path, err)}
	}
	return s, nil
}

func (f *File) read() ([]byte, error) {
	st, err := os.Stat(f.path)
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, errors.New("must be a regular file")
	case st.Mode().Perm()&0o007 != 0:
		return nil, errors.New("must not be open to every user of the machine: chmod o= it")
	}
	r, err := os.Open(f.path)
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // only read
	return io.ReadAll(io.LimitReader(r, maxState+1))
}

// parse reads a state, or a refresh token by itself. Its errors quote nothing.
func parse(b []byte) (State, error) {
	b = bytes.TrimSpace(b)
	switch {
	case len(b) == 0:
		return State{}, errors.New("is empty")
	case len(b) > maxState:
		return State{}, errors.New("must not be larger than 64 KiB")
	case b[0] != '{':
		if bytes.ContainsFunc(b, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return State{}, errors.New("must hold one refresh token, or what egret wrote")
		}
		return State{Refresh: secret.New(string(b))}, nil
	}
	var s stored
	if json.Unmarshal(b, &s) != nil || s.Version != version || s.Refresh == "" {
		return State{}, errors.New("must hold one refresh token, or what this version of egret wrote")
	}
	return State{
		Refresh: secret.New(s.Refresh), Access: secret.New(s.Access),
		Obtained: s.Obtained, Expires: s.Expires, Asked: s.Asked, Spent: s.Spent,
	}, nil
}

func render(s State) ([]byte, error) {
	return json.Marshal(stored{
		Version: version, Refresh: s.Refresh.Reveal(), Access: s.Access.Reveal(),
		Obtained: s.Obtained, Expires: s.Expires, Asked: s.Asked, Spent: s.Spent,
	})
}

// Save implements Store: a new file beside the old one, synced, takes its name, and the
// folder is synced, so that either the old or the new state is there, whole.
func (f *File) Save(_ context.Context, s State) error {
	b, err := render(s)
	if err == nil {
		err = f.replace(b)
	}
	if err != nil {
		return fmt.Errorf("state file %q: %w", f.path, durable.Unpath(err))
	}
	return nil
}

func (f *File) replace(b []byte) error {
	st, err := os.Lstat(f.path)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return errors.New("must be a regular file, no link: it is replaced")
	}
	return durable.Replace(f.path, b)
}
