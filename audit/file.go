// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/egret-proxy/egret/internal/durable"
)

// rotateRetry is the pause after a rotation that failed; meanwhile the file grows.
const rotateRetry = time.Minute

// FileOptions describe a File.
type FileOptions struct {
	Path     string
	MaxSize  int64        // bytes; a batch that would make the file larger goes into a new one; 0: never rotate
	MaxFiles int          // rotated files kept; 0: all
	Logger   *slog.Logger // nil: silent
}

// File is a Sink that appends to a file and rotates it by size.
//
// Durability: every batch is one write(2); fsync follows within a second and at Close,
// so a crash of egret loses nothing that was written and a crash of the machine at most
// the last second. The file is made with mode 0600 and opened without following a
// symlink. A rotated file is called NAME.YYYYMMDDThhmmss.mmmZ, in UTC. A file that was
// moved or removed from outside is noticed within a second of the next write, and at
// once by Reopen. One process writes to one file. Safe for concurrent use.
type File struct {
	o FileOptions

	mu       sync.Mutex
	f        *os.File
	size     int64
	torn     bool      // the last line has no end
	rotateAt time.Time // no rotation before this
	closed   bool
}

// OpenFile opens or creates the file. A last line that a crash has torn is ended, so
// that the next record starts its own.
func OpenFile(o FileOptions) (*File, error) {
	if o.MaxSize < 0 || o.MaxFiles < 0 {
		return nil, fmt.Errorf("audit file: maxSize is %d and maxFiles is %d: neither may be negative", o.MaxSize, o.MaxFiles)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	f := &File{o: o}
	if err := f.open(); err != nil {
		return nil, err
	}
	return f, nil
}

// open replaces f.f. On error the old one stays.
func (f *File) open() error {
	// O_NONBLOCK: a FIFO in the file's place fails instead of waiting for a reader.
	const flags = os.O_RDWR | os.O_APPEND | os.O_CREATE | syscall.O_NOFOLLOW | syscall.O_NONBLOCK
	file, err := os.OpenFile(f.o.Path, flags, 0o600)
	if errors.Is(err, syscall.ELOOP) {
		return fmt.Errorf("audit file %q is a symbolic link: name the file itself", f.o.Path)
	}
	if err != nil {
		return fmt.Errorf("audit file: %w", err)
	}
	size, torn, err := inspect(file)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	if f.f != nil {
		f.retire()
	}
	f.f, f.size, f.torn = file, size, torn
	return nil
}

// retire syncs and closes the old file when a new one is open.
func (f *File) retire() {
	if err := errors.Join(f.f.Sync(), f.f.Close()); err != nil {
		f.o.Logger.Error("old audit file did not close", "err", err)
	}
}

// inspect refuses what must not be written to and looks at the last byte.
func inspect(file *os.File) (size int64, torn bool, err error) {
	fi, err := file.Stat()
	if err != nil {
		return 0, false, fmt.Errorf("audit file: %w", err)
	}
	if !fi.Mode().IsRegular() {
		return 0, false, fmt.Errorf("audit file %q is not a regular file: use - for standard output", file.Name())
	}
	if perm := fi.Mode().Perm(); perm&0o022 != 0 {
		return 0, false, fmt.Errorf("audit file %q has mode %#o: others may change records; run chmod go-w", file.Name(), perm)
	}
	if fi.Size() == 0 {
		return 0, false, nil
	}
	last := make([]byte, 1)
	if _, err := file.ReadAt(last, fi.Size()-1); err != nil {
		return 0, false, fmt.Errorf("audit file: %w", err)
	}
	return fi.Size(), last[0] != '\n', nil
}

// Write implements Sink. It takes all of p or, with an error, nothing: what a full disk
// took of it is cut off again.
func (f *File) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return 0, fs.ErrClosed
	}
	f.rotateIfDue(int64(len(p)))
	if f.torn {
		if _, err := f.f.Write([]byte{'\n'}); err != nil {
			return 0, err
		}
		f.size++
		f.torn = false
	}
	n, err := f.f.Write(p)
	if err != nil {
		f.undo(int64(n))
		return 0, err
	}
	f.size += int64(n)
	return n, nil
}

// undo cuts off the n bytes of a write that failed. Where it cannot, the next write
// starts on a new line.
func (f *File) undo(n int64) {
	if n <= 0 {
		return
	}
	fi, err := f.f.Stat()
	if err == nil && fi.Size() == f.size+n && f.f.Truncate(f.size) == nil {
		return
	}
	f.size, f.torn = f.size+n, true
}

// Sync implements Sink. After a failed fsync the kernel may have dropped what it did
// not write, and says so only once: the error is the last that is heard of those
// records.
func (f *File) Sync() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return fs.ErrClosed
	}
	if err := f.f.Sync(); err != nil {
		return err
	}
	return f.follow()
}

// follow opens the path again where it no longer names our file, and learns a size that
// was changed from outside (copytruncate).
func (f *File) follow() error {
	named, err := os.Lstat(f.o.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("audit file: %w", err)
	}
	ours, serr := f.f.Stat()
	if serr != nil {
		return fmt.Errorf("audit file: %w", serr)
	}
	if err == nil && os.SameFile(named, ours) {
		f.size = ours.Size()
		return nil
	}
	return f.open()
}

// Reopen opens the path again, for a rotation by somebody else (SIGHUP). On error the
// old file stays in use.
func (f *File) Reopen() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return fs.ErrClosed
	}
	return f.open()
}

// Close implements Sink: it syncs and closes the file.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	return errors.Join(f.f.Sync(), f.f.Close())
}

// rotateIfDue starts a new file where n more bytes would make this one too large. A
// rotation that fails is logged and tried again a minute later: a file that is too
// large is better than a record that is not written.
func (f *File) rotateIfDue(n int64) {
	if f.o.MaxSize == 0 || f.size == 0 || f.size+n <= f.o.MaxSize || time.Now().Before(f.rotateAt) {
		return
	}
	if err := f.rotate(); err != nil {
		f.rotateAt = time.Now().Add(rotateRetry)
		f.o.Logger.Error("audit file was not rotated", "err", err)
	}
}

func (f *File) rotate() error {
	to, err := freeName(f.o.Path, time.Now())
	if err != nil {
		return err
	}
	// A path that is gone was moved by somebody, or by us before an open that failed.
	if err := os.Rename(f.o.Path, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := f.open(); err != nil {
		return err
	}
	dir := filepath.Dir(f.o.Path)
	err = durable.SyncDir(dir)
	if err != nil {
		err = fmt.Errorf("fsync %q: %w", dir, err)
	}
	return errors.Join(err, prune(f.o.Path, f.o.MaxFiles))
}
