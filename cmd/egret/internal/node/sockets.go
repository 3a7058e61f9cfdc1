// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
)

// sockets are those that systemd has opened for us, by FileDescriptorName=.
type sockets map[string][]net.Listener

// inherited takes the sockets that systemd passed. Nobody else's process may take them.
func (n *Node) inherited() (sockets, error) {
	if !n.opt.Service {
		return nil, nil //nolint:nilnil // there are none
	}
	m, err := activation.ListenersWithNames()
	if err != nil {
		return nil, fmt.Errorf("socket activation: %w", err)
	}
	return m, nil
}

// rest closes what no listener has taken: its clients would wait for ever.
func (s sockets) rest(n *Node) {
	for name, list := range s {
		for _, l := range list {
			n.log.Warn("systemd passed a socket that no listener names; it is closed", "name", name, "address", l.Addr().String(),
				"hint", "set address: systemd:"+name+" at a listener, or remove the socket unit")
			_ = l.Close()
		}
	}
}

func (s sockets) listen(address string, mode fs.FileMode) (net.Listener, error) {
	if name, ok := strings.CutPrefix(address, "systemd:"); ok {
		list := s[name]
		if len(list) != 1 {
			return nil, fmt.Errorf("address %q: systemd passed %d sockets of this name: set FileDescriptorName=%s in the socket unit", address, len(list), name)
		}
		delete(s, name)
		return list[0], nil
	}
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		return listenUnix(path, mode)
	}
	return net.Listen("tcp", address)
}

// newSuffix names a socket until it has its mode.
const newSuffix = ".new"

// listenUnix binds a socket. It gets its name when it has its mode; a stale one of an earlier run is replaced, a live one is not.
func listenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	if err := vacant(path); err != nil {
		return nil, err
	}
	tmp := path + newSuffix
	_ = os.Remove(tmp)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(tmp, mode), os.Rename(tmp, path)); err != nil {
		return nil, errors.Join(err, l.Close(), os.Remove(tmp))
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &unixListener{UnixListener: l, path: path, info: info}, nil
}

// vacant reports why a socket may not be made at path.
func vacant(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("address %q exists and is not a socket: remove it or name another path", path)
	}
	c, err := net.Dial("unix", path) //nolint:forbidigo // a local socket
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil // left by a crash
	case err != nil:
		return fmt.Errorf("address %q: whether another process listens there is not known: %w", path, err)
	}
	return errors.Join(fmt.Errorf("address %q: another process listens there", path), c.Close())
}

// unixListener removes its own socket on Close, not that of a successor.
type unixListener struct {
	*net.UnixListener
	path string
	info os.FileInfo
}

// Addr implements net.Listener.
func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close implements net.Listener.
func (l *unixListener) Close() error {
	if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.info) {
		_ = os.Remove(l.path)
	}
	return l.UnixListener.Close()
}

// own reports whether an address is one of egret's own: a request that came back to us
// would go round for ever, and metrics are nobody's upstream (MUST P2, T5).
func (n *Node) own(ap netip.AddrPort) bool {
	if n.metricsAt != nil && reaches(ap, n.metricsAt.Addr()) {
		return true
	}
	for _, e := range n.entrances {
		if reaches(ap, e.listener.Addr()) {
			return true
		}
	}
	return false
}

// reaches reports whether a connection to ap ends at the listener of this address.
func reaches(ap netip.AddrPort, listener net.Addr) bool {
	mine, err := netip.ParseAddrPort(listener.String())
	if err != nil || mine.Port() != ap.Port() {
		return false
	}
	if !mine.Addr().IsUnspecified() {
		return mine.Addr().Unmap() == ap.Addr().Unmap()
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap() == ap.Addr().Unmap() {
			return true
		}
	}
	return ap.Addr().IsLoopback() || ap.Addr().IsUnspecified() // 127.0.0.0/8 is all ours
}
