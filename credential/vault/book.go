// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"sync"

	"github.com/egret-proxy/egret/credential"
)

// maxLoans bounds what one provider keeps account of: more than the Cache holds, since
// what was replaced is among them for a while.
const maxLoans = 20_000

// book keeps account of loans until they end. Safe for concurrent use.
type book struct {
	mu    sync.Mutex
	byKey map[credential.Key]*loan // the newest of each
	all   map[*loan]struct{}
}

func newBook() *book {
	return &book{byKey: map[credential.Key]*loan{}, all: map[*loan]struct{}{}}
}

func (b *book) newest(k credential.Key) *loan {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.byKey[k]
}

// room reports that there is none.
func (b *book) room() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.all) >= maxLoans {
		return fail(credential.Backoff, "no more than %d secrets are lent at a time", maxLoans)
	}
	return nil
}

// put makes l the newest of its key.
func (b *book) put(l *loan) {
	b.mu.Lock()
	old := b.byKey[l.key]
	b.byKey[l.key] = l
	b.all[l] = struct{}{}
	b.mu.Unlock()
	if old != nil {
		old.supersede()
	}
}

func (b *book) remove(l *loan) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.all, l)
	if b.byKey[l.key] == l {
		delete(b.byKey, l.key)
	}
}

// close ends what was superseded.
func (b *book) close() {
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	var wg sync.WaitGroup
	turn := make(chan struct{}, 8)
	for _, l := range b.superseded() {
		turn <- struct{}{}
		wg.Go(func() {
			defer func() { <-turn }()
			_ = l.end(ctx) // its lease ends by itself otherwise
		})
	}
	wg.Wait()
}

func (b *book) superseded() []*loan {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []*loan
	for l := range b.all {
		if b.byKey[l.key] != l {
			out = append(out, l)
		}
	}
	return out
}
