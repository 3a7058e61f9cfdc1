// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/internal/durable"
)

// Lock is the Lease in a file beside the state. flock holds between the processes of one
// machine, and of several where the file system has it; where it has not, the owner and
// the end that are written into the file keep others away.
type Lock struct {
	path string
	host string
	self string
}

// NewLock names the file, which is made when it is needed and never removed.
func NewLock(path string) *Lock {
	host, _ := os.Hostname() // empty: then every owner is of another machine
	return &Lock{path: path, host: host, self: rand.Text()}
}

// holder is who has the lease.
type holder struct {
	Host  string    `json:"host"`
	Owner string    `json:"owner"`
	Until time.Time `json:"until"`
}

const pollLock = 50 * time.Millisecond

// Acquire implements Lease. Unreachable: another holds it for longer than ctx.
func (l *Lock) Acquire(ctx context.Context) (func(), error) {
	f, err := os.OpenFile(l.path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, lockError(l.path, err)
	}
	tick := time.NewTicker(pollLock)
	defer tick.Stop()
	for {
		ok, err := l.try(f)
		if ok {
			return func() { l.release(f) }, nil
		}
		if err != nil {
			return nil, errors.Join(lockError(l.path, err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(lockError(l.path, errors.New("another egret holds it")), f.Close())
		case <-tick.C:
		}
	}
}

func lockError(path string, err error) error {
	return &credential.Error{Kind: credential.Unreachable, Err: fmt.Errorf("lock file %q: %w", path, durable.Unpath(err))}
}

// try takes the lease if nobody has it.
func (l *Lock) try(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
		return false, nil
	}
	if err != nil && !errors.Is(err, syscall.ENOTSUP) && !errors.Is(err, syscall.ENOLCK) {
		return false, err
	}
	locked := err == nil
	h := read(f)
	// On one machine flock is the truth: who had it and did not say so has died.
	dead := locked && h.Host == l.host && l.host != ""
	if time.Now().Before(h.Until) && time.Until(h.Until) <= 2*LeaseTime && !dead {
		return false, syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
	}
	if err := write(f, holder{Host: l.host, Owner: l.self, Until: time.Now().Add(LeaseTime)}); err != nil {
		return false, err
	}
	return locked || read(f).Owner == l.self, nil
}

// release gives the lease back. Closing the file ends flock, whatever fails before.
func (l *Lock) release(f *os.File) {
	if read(f).Owner == l.self {
		_ = write(f, holder{})
	}
	_ = f.Close()
}

func read(f *os.File) holder {
	var h holder
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 4096))
	if err != nil || json.Unmarshal(b, &h) != nil {
		return holder{} // empty, or torn by a crash
	}
	return h
}

func write(f *os.File, h holder) error {
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		return err
	}
	return f.Sync()
}
