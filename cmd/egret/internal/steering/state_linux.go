// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package steering

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/egret-proxy/egret/internal/netns"
	"github.com/egret-proxy/egret/internal/steer"
)

// state keeps the pods that the CNI plugin or the container runtime has told of, so that a
// Steersman that comes back finds them by itself: the plugin is called once in a pod's
// life, and the runtime may be away. It belongs on a tmpfs: after a boot there are other
// pods.
type state struct {
	dir string
	log *slog.Logger
}

func newState(dir string, log *slog.Logger) (*state, error) {
	above := os.MkdirAll(filepath.Dir(dir), 0o755) //nolint:gosec // it may be that of the socket, which another user looks for
	if err := errors.Join(above, os.MkdirAll(dir, 0o700)); err != nil {
		return nil, fmt.Errorf("state of the pods: %w", err)
	}
	return &state{dir, log}, nil
}

func (s *state) file(key string) string { return filepath.Join(s.dir, url.PathEscape(key)+".json") }

// keep writes a pod down; a file is there whole or not at all.
func (s *state) keep(a AddRequest) error {
	data, err := json.Marshal(a)
	if err != nil {
		return err
	}
	next := s.file(a.Key) + ".next"
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return fmt.Errorf("state of the pod: %w", err)
	}
	return os.Rename(next, s.file(a.Key))
}

func (s *state) forget(key string) {
	if err := os.Remove(s.file(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Error("state of a pod cannot be removed", "key", key, "error", err)
	}
}

// restore steers every pod that is still there.
func (s *state) restore(ctx context.Context, m *steer.Steersman) {
	list, err := os.ReadDir(s.dir)
	if err != nil {
		s.log.Error("state of the pods cannot be read: those of before are not steered until they are made anew", "error", err)
		return
	}
	var g errgroup.Group
	g.SetLimit(atOnce)
	for _, e := range list {
		if strings.HasSuffix(e.Name(), ".json") {
			g.Go(func() error { s.restoreOne(ctx, m, e.Name()); return nil })
		}
	}
	_ = g.Wait()
}

func (s *state) restoreOne(ctx context.Context, m *steer.Steersman, name string) {
	var a AddRequest
	data, err := os.ReadFile(filepath.Join(s.dir, name))
	if err == nil {
		err = json.Unmarshal(data, &a)
	}
	if err == nil {
		err = a.add(ctx, m)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, netns.ErrNotNamespace): // the pod has gone meanwhile
		_ = os.Remove(filepath.Join(s.dir, name))
	case err != nil:
		s.log.Error("a pod of before is not steered", "file", name, "error", err)
	}
}

// add steers the pod.
func (a AddRequest) add(ctx context.Context, m *steer.Steersman) error {
	ns, err := netns.Open(a.NetNS)
	if err != nil {
		return err
	}
	return m.Add(ctx, steer.Pod{Key: a.Key, UID: a.UID, Namespace: a.Namespace, Name: a.Name}, ns)
}
