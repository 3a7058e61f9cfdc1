// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// How long a change must have been quiet, and how often is looked without an event.
const (
	watchQuiet = 200 * time.Millisecond
	watchPoll  = 30 * time.Second
	maxPutOff  = 10 // times the quiet
)

// Watch calls onChange, in the caller's goroutine and so never twice at a time,
// whenever the content of the snapshot's files and folders differs from what it was at
// the last call: in the snapshot, at first. It returns when ctx ends (nil), or at once
// where the system gives no watch at all. A load that has read other files than the
// last needs a new Watch, with the new snapshot.
//
// Events of the file system only say when to look; what is compared is content. So a
// Kubernetes volume that swaps its ..data link, an editor that renames over the file,
// a file that is deleted and made again, and a lost event (there is a slow poll) all
// end in the same comparison, and touching a file without changing it in nothing.
func Watch(ctx context.Context, since Snapshot, onChange func()) error {
	events, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watching files: %w", err)
	}
	defer func() { _ = events.Close() }()
	w := &watcher{events: events, last: since, onChange: onChange, quiet: watchQuiet, poll: watchPoll}
	w.run(ctx)
	return nil
}

type watcher struct {
	events   *fsnotify.Watcher
	last     Snapshot
	onChange func()
	quiet    time.Duration
	poll     time.Duration
}

func (w *watcher) run(ctx context.Context) {
	poll := time.NewTicker(w.poll)
	defer poll.Stop()
	quiet := time.NewTimer(0) // the first look catches what changed before we watched
	defer quiet.Stop()
	w.follow()
	var since time.Time // of the first event that has not been looked at
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.events.Events:
			since = w.wait(quiet, since)
		case <-w.events.Errors: //nolint:errcheck // an overflow: something has changed, and nobody knows what
			since = w.wait(quiet, since)
		case <-quiet.C:
			since = time.Time{}
			w.look(ctx)
		case <-poll.C:
			w.look(ctx)
		}
	}
}

// wait puts the look off until it has been quiet, but not for ever: a folder that is
// also written to by others, a log in it, is never quiet.
func (w *watcher) wait(quiet *time.Timer, since time.Time) time.Time {
	if since.IsZero() {
		since = time.Now()
	}
	quiet.Reset(max(0, min(w.quiet, time.Until(since.Add(maxPutOff*w.quiet)))))
	return since
}

func (w *watcher) look(ctx context.Context) {
	w.follow()
	now := w.last.now()
	if ctx.Err() != nil || now.equal(w.last) {
		return
	}
	w.last = now
	w.onChange()
}

// follow watches every folder in which a change can happen. Adding a folder twice is
// free, and renews a watch that went away with a deleted folder. Failures are left to
// the poll.
func (w *watcher) follow() {
	for _, p := range w.last.Paths() {
		for _, dir := range foldersOf(p, w.last.held[p]) {
			_ = w.events.Add(dir)
		}
	}
}

// foldersOf lists the folders whose entries decide what name means: its parent, the
// parents of everything that it links to, and, where it is a folder, all below it.
func foldersOf(name string, held bool) []string {
	dirs := []string{nearestFolder(filepath.Dir(name))}
	target := name
	for range maxLinks {
		link, err := os.Readlink(target)
		if err != nil {
			break
		}
		if !filepath.IsAbs(link) {
			link = filepath.Join(filepath.Dir(target), link)
		}
		target = link
		dirs = append(dirs, nearestFolder(filepath.Dir(target)))
	}
	info, real, err := statReal(name)
	if err != nil || !info.IsDir() {
		return dirs
	}
	return below(dirs, newWalker(real, held), child{name: name, real: real}, 0)
}

// maxLinks is how many links the kernel itself follows.
const maxLinks = 40

// nearestFolder is the folder itself, or what exists of the way to it.
func nearestFolder(dir string) string {
	for {
		info, err := os.Stat(dir)
		if err == nil && info.IsDir() || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// below adds a folder and all folders in it.
func below(dirs []string, w *walker, c child, depth int) []string {
	if depth > maxFolders || !w.enter(c.real) {
		return dirs
	}
	dirs = append(dirs, c.name)
	list, _ := w.list(c.name, c.real)
	for _, x := range list {
		if x.err == nil && !x.out && x.info.IsDir() {
			dirs = below(dirs, w, x, depth+1)
		}
	}
	return dirs
}
