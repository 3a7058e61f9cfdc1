// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package static

import (
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/egret-proxy/egret/internal/durable"
	"github.com/egret-proxy/egret/internal/secret"
)

const (
	defaultPoll = 3 * time.Second
	// unsettled is how old a file must be before its unchanged times and size are
	// believed: clocks of file systems are coarse, and a second write may leave them alike.
	unsettled = 2 * time.Second
	// readAfter is how many looks pass before the content is read whatever they say.
	readAfter = 20
)

// watcher tells its provider when the content of path has become another. It looks every
// few seconds and holds nothing in between: providers of replaced configurations live on
// for a while, and watches of the kernel (inotify) are few per user.
type watcher struct {
	path  string
	every time.Duration
	next  bool // see Options
	log   *slog.Logger
	p     *Provider
	last  secret.Secret // zero: could not be read
	seen  look
	quiet int // looks since the content was read
	quit  chan struct{}
}

// look is what tells one state of a file from another without reading it.
type look struct {
	target string // where the symbolic links lead
	info   os.FileInfo
	at     time.Time
}

func lookAt(path string) look {
	l := look{at: time.Now()}
	l.target, _ = filepath.EvalSymlinks(path)
	l.info, _ = os.Stat(path)
	return l
}

// same reports whether nothing can have changed between two looks. A file that is not
// there is the same as itself.
func (l look) same(o look) bool {
	if l.info == nil || o.info == nil {
		return l.info == nil && o.info == nil
	}
	return l.target == o.target && os.SameFile(l.info, o.info) && l.info.Size() == o.info.Size() &&
		l.info.Mode() == o.info.Mode() && l.info.ModTime().Equal(o.info.ModTime()) && l.at.Sub(l.info.ModTime()) > unsettled
}

func newWatcher(path string, p *Provider, o Options) (*watcher, error) {
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return nil, durable.Unpath(err)
	}
	w := &watcher{path: path, every: o.Poll, next: o.Next, log: o.logger(), p: p, quit: make(chan struct{})}
	if w.every <= 0 {
		w.every = defaultPoll
	}
	w.seen = lookAt(path) // before the content: a change in between is seen next time
	w.last, _ = p.read()
	return w, nil
}

func (w *watcher) stop() { close(w.quit) }

func (w *watcher) run() {
	defer close(w.p.done)
	t := time.NewTimer(w.pause())
	defer t.Stop()
	for {
		select {
		case <-w.quit:
			return
		case <-t.C:
			w.check()
			t.Reset(w.pause())
		}
	}
}

// pause is the time to the next look, spread so that many providers do not look at once.
func (w *watcher) pause() time.Duration {
	return w.every*3/4 + rand.N(w.every/2+1)
}

func (w *watcher) check() {
	now := lookAt(w.path)
	w.quiet++
	if w.quiet < readAfter && w.seen.same(now) {
		return
	}
	w.seen, w.quiet = now, 0
	w.compare()
}

func (w *watcher) compare() {
	now, err := w.p.read()
	if err != nil {
		now = secret.Secret{}
	}
	if now.Equal(w.last) {
		return
	}
	w.last = now
	w.tell(err)
	select {
	case w.p.changes <- struct{}{}:
	default: // one is waiting to be received already
	}
}

// tell logs a change. err is why there is no value any more, nil where there is one.
func (w *watcher) tell(err error) {
	switch {
	case err == nil:
		warnMode(w.path, w.log)
	case w.next && errors.Is(err, fs.ErrNotExist): // the last step of a rotation: mv next value
		w.log.Info("there is no next key any more", "path", w.path)
	default:
		w.log.Error("secret file is gone or not usable any more", "path", w.path, "error", err)
	}
}
