// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package steering

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/egret-proxy/egret/internal/netns"
	"github.com/egret-proxy/egret/internal/steer"
)

// folder steers every network namespace that is mounted in a folder (ip netns puts them
// into /run/netns), under the name of its file, as they come and go.
type folder struct {
	path string
	m    *steer.Steersman
	log  *slog.Logger
	have map[string]os.FileInfo // of the files that are steered
}

// How often the folder is looked at without being told, and how often a file is that is
// not a namespace yet: ip netns makes the file first and mounts the namespace on it then.
const (
	lookEvery  = 5 * time.Second
	retryEvery = 20 * time.Millisecond
	retryFor   = 2 * time.Second
)

// run looks once, says that it has by begun, and follows the folder until ctx ends.
func (f *folder) run(ctx context.Context, begun func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %q: %w", f.path, err)
	}
	defer w.Close() //nolint:errcheck // nothing is lost
	if err := w.Add(f.path); err != nil {
		return fmt.Errorf("folder of network namespaces %q: %w (make it, or name the right one: ip netns uses /run/netns)", f.path, err)
	}
	early := f.look(ctx)
	begun()
	changed := time.Now()
	for {
		wait := lookEvery
		if early && time.Since(changed) < retryFor {
			wait = retryEvery
		}
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-w.Events:
			if !ok {
				return errors.New("watch of the folder has ended")
			}
			changed = time.Now()
		case err := <-w.Errors:
			f.log.Warn("events of the folder were lost, it is looked at anew", "error", err)
		case <-time.After(wait):
		}
		early = f.look(ctx)
	}
}

// look brings the Steersman in step with the folder. early: there is a file that is not a
// namespace, and may become one.
func (f *folder) look(ctx context.Context) (early bool) {
	list, err := os.ReadDir(f.path)
	if err != nil {
		f.log.Error("the folder of network namespaces cannot be read; what is steered stays", "error", err)
		return false
	}
	seen := map[string]bool{}
	for _, e := range list {
		name := filepath.Join(f.path, e.Name())
		info, err := os.Stat(name)
		if err != nil {
			continue
		}
		seen[e.Name()] = true
		if was := f.have[e.Name()]; was != nil && os.SameFile(was, info) {
			continue
		}
		early = !f.add(ctx, e.Name(), info) || early
	}
	for name := range f.have {
		if !seen[name] {
			delete(f.have, name)
			f.m.Remove(ctx, name)
		}
	}
	return early
}

// add steers one. It returns false where the file is no namespace.
func (f *folder) add(ctx context.Context, name string, info os.FileInfo) bool {
	ns, err := netns.Open(filepath.Join(f.path, name))
	if err != nil {
		return false
	}
	f.have[name] = info
	if err := f.m.Add(ctx, steer.Pod{Key: name}, ns); err != nil {
		f.log.Error("a network namespace is not steered", "name", name, "error", err)
	}
	return true
}
