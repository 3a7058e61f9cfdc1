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
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sync/errgroup"

	"github.com/egret-proxy/egret/internal/netns"
	"github.com/egret-proxy/egret/internal/steer"
)

// folder steers every network namespace that is mounted in a folder (ip netns puts them
// into /run/netns), under the name of its file, as they come and go.
type folder struct {
	path string
	m    *steer.Steersman
	log  *slog.Logger

	mu   sync.Mutex
	have map[string]*seen // namespaces that are steered, or are not with a reason
}

// seen is a file that was a namespace. A namespace that is steered is held, so that no other
// one has its number.
type seen struct {
	info  os.FileInfo
	tried time.Time
	fault string // why it is not steered; empty: it is
}

// atOnce is how many namespaces are entered at the same time: firewall programs are run.
const atOnce = 4

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
	there := map[string]bool{}
	for _, e := range list {
		there[e.Name()] = true
	}
	f.leave(ctx, there)
	var g errgroup.Group
	g.SetLimit(atOnce)
	for name := range there {
		info, err := os.Stat(filepath.Join(f.path, name))
		if err != nil || f.known(name, info) {
			continue
		}
		g.Go(func() error { return f.add(ctx, name, info) })
	}
	return g.Wait() != nil
}

// leave ends what is not in the folder any more.
func (f *folder) leave(ctx context.Context, there map[string]bool) {
	var g errgroup.Group
	g.SetLimit(atOnce)
	for name := range f.have {
		if !there[name] {
			delete(f.have, name)
			g.Go(func() error { f.m.Remove(ctx, name); return nil })
		}
	}
	_ = g.Wait()
}

// known reports whether there is nothing to do about a file.
func (f *folder) known(name string, info os.FileInfo) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.have[name]
	if was == nil || !os.SameFile(was.info, info) {
		return false
	}
	return was.fault == "" && !f.m.Blocked(name) || time.Since(was.tried) < lookEvery
}

// add steers one. The error says that the file is no namespace yet; what else goes wrong is
// tried again at leisure.
func (f *folder) add(ctx context.Context, name string, info os.FileInfo) error {
	ns, err := netns.Open(filepath.Join(f.path, name))
	if err != nil {
		return err
	}
	now := &seen{info: info, tried: time.Now()}
	if err := f.m.Add(ctx, steer.Pod{Key: name}, ns); err != nil {
		now.fault = err.Error()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if was := f.have[name]; now.fault != "" && (was == nil || was.fault != now.fault) {
		f.log.Error("a network namespace is not steered", "name", name, "error", now.fault)
	}
	f.have[name] = now
	return nil
}
