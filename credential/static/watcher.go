// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package static

import (
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/egret-proxy/egret/internal/secret"
)

const (
	debounce = 100 * time.Millisecond // editors and agents write in several steps
	lookAll  = time.Minute            // file systems that tell nothing (NFS, FUSE) are looked at
	maxLinks = 16
)

// watcher tells its provider when the content of path has become another. It watches
// the folders of the file and of every symbolic link on the way to it, not the file,
// which may be replaced.
type watcher struct {
	path   string
	fs     *fsnotify.Watcher
	log    *slog.Logger
	p      *Provider
	last   secret.Secret // zero: could not be read
	quit   chan struct{}
	folder map[string]bool
}

func newWatcher(path string, p *Provider, log *slog.Logger) (*watcher, error) {
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	w := &watcher{path: path, fs: fs, log: log, p: p, quit: make(chan struct{}), folder: map[string]bool{}}
	if err := fs.Add(filepath.Dir(path)); err != nil {
		_ = fs.Close()
		return nil, err
	}
	w.folder[filepath.Dir(path)] = true
	w.watchLinks()
	w.last, _ = p.read()
	return w, nil
}

func (w *watcher) stop() { close(w.quit) }

func (w *watcher) run() {
	defer close(w.p.done)
	defer w.fs.Close()         //nolint:errcheck // nothing can be done
	var quiet <-chan time.Time // armed by the first event: a busy folder must not put it off for ever
	all := time.NewTicker(lookAll)
	defer all.Stop()
	for {
		select {
		case <-w.quit:
			return
		case <-w.fs.Events:
			quiet = armed(quiet)
		case <-w.fs.Errors: //nolint:errcheck // an overflow: something has happened
			quiet = armed(quiet)
		case <-quiet:
			quiet = nil
			w.compare()
		case <-all.C:
			w.compare()
		}
	}
}

func armed(c <-chan time.Time) <-chan time.Time {
	if c == nil {
		return time.After(debounce)
	}
	return c
}

func (w *watcher) compare() {
	w.watchLinks()
	now, err := w.p.read()
	if err != nil {
		now = secret.Secret{}
	}
	if now.Equal(w.last) {
		return
	}
	w.last = now
	if err != nil {
		w.log.Error("secret file is gone or not usable any more", "path", w.path, "error", err)
	} else {
		warnMode(w.path, w.log)
	}
	select {
	case w.p.changes <- struct{}{}:
	default: // one is waiting to be received already
	}
}

// watchLinks makes the watched folders those on the present way to the file. Its own
// folder is added anew too: it may have been replaced under its name.
func (w *watcher) watchLinks() {
	want := map[string]bool{}
	for p, n := w.path, 0; n < maxLinks; n++ {
		want[filepath.Dir(p)] = true
		if _, err := os.Readlink(filepath.Dir(p)); err == nil { // swapped as a whole, as Kubernetes does with ..data
			want[filepath.Dir(filepath.Dir(p))] = true
		}
		target, err := os.Readlink(p)
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(p), target)
		}
		p = target
	}
	for d := range want {
		_ = w.fs.Add(d) // idempotent; a folder that is not there will come with an event of its parent
	}
	for d := range w.folder {
		if !want[d] {
			_ = w.fs.Remove(d)
		}
	}
	w.folder = want
}
