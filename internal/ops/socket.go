// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// maxSocketPath is what every platform's sockaddr_un holds (macOS: 104 with the NUL).
const maxSocketPath = 103

// newSuffix names the socket until it has its mode.
const newSuffix = ".new"

// listenSocket makes a unix socket with this mode at path. It is bound under another
// name and renamed, so that nobody finds it with another mode and the socket that a
// crash has left behind is replaced, while one that somebody serves is not.
func listenSocket(path string, mode fs.FileMode) (net.Listener, error) {
	if err := checkSocketPath(path); err != nil {
		return nil, err
	}
	tmp := path + newSuffix
	if err := removeSocket(tmp); err != nil {
		return nil, err
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	ln.SetUnlinkOnClose(false)
	err = errors.Join(os.Chmod(tmp, mode), os.Rename(tmp, path))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("admin socket: %w", err), ln.Close(), os.Remove(tmp))
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("admin socket: %w", err), ln.Close())
	}
	return &socketListener{ln, path, info}, nil
}

func checkSocketPath(path string) error {
	if n := len(path) + len(newSuffix); n > maxSocketPath {
		return fmt.Errorf("admin socket %q is %d bytes long: at most %d fit; use a shorter path", path, len(path), maxSocketPath-len(newSuffix))
	}
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("admin socket: %w", err)
	}
	if m := dir.Mode(); m.Perm()&0o002 != 0 && m&fs.ModeSticky == 0 {
		return fmt.Errorf("admin socket: anybody may replace files in %q (mode %#o): run chmod o-w", filepath.Dir(path), m.Perm())
	}
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("admin socket: %w", err)
	}
	if fi.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("admin socket %q exists and is not a socket: remove it or name another path", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second) //nolint:forbidigo // a local socket
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil // left by a crash
	}
	if err != nil {
		return fmt.Errorf("admin socket: whether another egret serves it is not known: %w", err)
	}
	return errors.Join(fmt.Errorf("admin socket %q is in use: another egret serves it", path), c.Close())
}

// removeSocket removes what a crash has left, if it is a socket.
func removeSocket(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && fi.Mode().Type() != fs.ModeSocket {
		err = fmt.Errorf("%q exists and is not a socket", path)
	}
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil {
		return fmt.Errorf("admin socket: %w", err)
	}
	return nil
}

// socketListener removes its own socket on Close, not that of a successor.
type socketListener struct {
	*net.UnixListener
	path string
	info os.FileInfo
}

func (l *socketListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

func (l *socketListener) Close() error {
	fi, err := os.Lstat(l.path)
	if err == nil && os.SameFile(fi, l.info) {
		err = os.Remove(l.path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(l.UnixListener.Close(), err)
}
