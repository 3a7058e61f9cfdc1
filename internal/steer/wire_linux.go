// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package steer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// wire sends and receives messages with descriptors. Sending may be concurrent.
type wire struct {
	conn *net.UnixConn
	mu   sync.Mutex // sending
}

// sendTime bounds a send: a peer that does not read is given up.
const sendTime = 5 * time.Second

// send passes a message with descriptors, which stay the sender's.
func (w *wire) send(m message, files ...*os.File) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(data) > maxPacket || len(files) > maxFDs {
		return fmt.Errorf("a message %q of %d bytes and %d descriptors is too large", m.Type, len(data), len(files))
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, 0, len(files))
		for _, f := range files {
			fds = append(fds, int(f.Fd()))
		}
		rights = unix.UnixRights(fds...)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.conn.SetWriteDeadline(time.Now().Add(sendTime)); err != nil {
		return err
	}
	_, _, err = w.conn.WriteMsgUnix(data, rights, nil)
	return err
}

// errProtocol: the peer does not speak as this package does.
var errProtocol = errors.New("protocol")

// receive waits for a message. Its descriptors belong to the caller; with an error there
// are none. io.EOF: the peer has left.
func (w *wire) receive() (m message, files []*os.File, err error) {
	data, rights := make([]byte, maxPacket+1), make([]byte, unix.CmsgSpace(maxFDs*4))
	n, rn, flags, _, err := w.conn.ReadMsgUnix(data, rights)
	if err != nil {
		return m, nil, err
	}
	files, err = adopt(rights[:rn])
	switch {
	case err != nil:
	case n == 0 && len(files) == 0:
		err = io.EOF
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 || n > maxPacket:
		err = fmt.Errorf("%w: a packet is too large", errProtocol)
	default:
		if json.Unmarshal(data[:n], &m) != nil {
			err = fmt.Errorf("%w: a packet is not a message", errProtocol)
		} else if err = m.check(); err != nil {
			err = fmt.Errorf("%w: %w", errProtocol, err)
		}
	}
	if err != nil {
		closeAll(files)
		return message{}, nil, err
	}
	return m, files, nil
}

// check holds a message to what its type needs.
func (m message) check() error {
	switch m.Type {
	case typeHave, typeAdd, typeRemove, typeAck:
		if m.Pod == nil {
			return fmt.Errorf("message %q names no pod", m.Type)
		}
		return m.Pod.check()
	case typeHello, typeReady, typeSynced, typeBye:
		return nil
	}
	return errors.New("unknown type of message")
}

// adopt takes over the descriptors that came with a packet.
func adopt(rights []byte) ([]*os.File, error) {
	if len(rights) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue // another kind of control message
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "steered"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// peerUID is who is at the other end, as the kernel has noted it.
func peerUID(c *net.UnixConn) (uint32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var inner error
	if err := raw.Control(func(fd uintptr) {
		cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || inner != nil {
		return 0, errors.Join(err, inner)
	}
	return cred.Uid, nil
}

// ServedByRoot returns an error unless the process at the other end is root's, or, in tests
// and in a user namespace, of this very user.
func ServedByRoot(c *net.UnixConn) error {
	if uid, err := peerUID(c); err != nil || uid != 0 && int(uid) != os.Geteuid() {
		return errors.Join(fmt.Errorf("the socket is served by uid %d: it must be root's", uid), err)
	}
	return nil
}

// sockets are what serves one namespace.
type sockets struct {
	listeners []*os.File
	diag      *os.File
}

func (s sockets) all() []*os.File { return append(append([]*os.File{}, s.listeners...), s.diag) }

func (s sockets) close() { closeAll(s.all()) }

// socketsOf sorts the descriptors of a message, which become those of the result.
func socketsOf(m message, files []*os.File) (sockets, error) {
	if m.Listeners < 1 || len(files) != m.Listeners+1 {
		closeAll(files)
		return sockets{}, fmt.Errorf("%w: %d descriptors for %d listening sockets and a sock_diag", errProtocol, len(files), m.Listeners)
	}
	s := sockets{listeners: files[:m.Listeners], diag: files[m.Listeners]}
	if err := s.check(m.Pod.NetNS); err != nil {
		s.close()
		return sockets{}, err
	}
	return s, nil
}

// check makes sure that every socket is what it is said to be, and of the namespace that
// is named: a socket of another one would have its callers taken for others.
func (s sockets) check(netns uint64) error {
	for _, f := range s.all() {
		if got, err := cookieOf(f); err != nil || got != netns {
			return fmt.Errorf("%w: a socket is not of the network namespace that is named", errProtocol)
		}
	}
	for _, f := range s.listeners {
		fd := int(f.Fd())
		kind, err1 := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
		listens, err2 := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
		if err := errors.Join(err1, err2); err != nil || kind != unix.SOCK_STREAM || listens != 1 {
			return fmt.Errorf("%w: a descriptor is not a listening socket", errProtocol)
		}
	}
	return nil
}

// cookieOf is the cookie of the network namespace that a socket was made in (Linux 5.14).
func cookieOf(f *os.File) (uint64, error) {
	return unix.GetsockoptUint64(int(f.Fd()), unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
}
