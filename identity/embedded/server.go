// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
)

// Bounds of the server. Callers are few and local; what they send is tiny.
const (
	maxMessage    = 64 << 10
	maxStreams    = 100 // per connection
	handshakeTime = 5 * time.Second
	maxSocketPath = 103 // sun_path of darwin, the shorter one, without its NUL
)

// Entry entitles callers of one socket to one identity.
type Entry struct {
	ID spiffeid.ID
	// UIDs are the users whose processes get it; none: the issuer's own. The socket's
	// modes admit only the issuer's user and root, so this narrows and never widens.
	UIDs []uint32
	Hint string // passed on as the SVID's hint
}

// Server is the Workload API on one socket. As a socket that is mounted into one pod,
// it knows the identities of its own entries and no others.
type Server struct {
	issuer   *Issuer
	entries  *entries
	listener *net.UnixListener
	grpc     *grpc.Server
}

// Serve listens on socketPath and serves the Workload API until ctx ends; it is
// Listen and Server.Serve in one. It returns nil when ctx has ended it.
func (i *Issuer) Serve(ctx context.Context, socketPath string, list ...Entry) error {
	s, err := i.Listen(socketPath, list...)
	if err != nil {
		return err
	}
	return s.Serve(ctx)
}

// Listen binds the socket with mode 0600, so that clients may connect from now on. The
// folder is made with mode 0700; one that is there must be private already. A socket
// that nobody listens on any more is replaced. Serve must be called to let go of it.
func (i *Issuer) Listen(socketPath string, list ...Entry) (*Server, error) {
	for _, e := range list {
		if err := i.mayMint(e.ID, 0); err != nil {
			return nil, err
		}
	}
	l, err := listen(socketPath)
	if err != nil {
		return nil, fmt.Errorf("embedded issuer: workload API socket: %w", err)
	}
	s := &Server{issuer: i, entries: newEntries(list), listener: l}
	s.grpc = grpc.NewServer(
		grpc.Creds(peerCredentials{}),
		grpc.ChainUnaryInterceptor(requireHeaderUnary),
		grpc.ChainStreamInterceptor(requireHeaderStream),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(handshakeTime),
		grpc.WaitForHandlers(true),
	)
	workload.RegisterSpiffeWorkloadAPIServer(s.grpc, &api{issuer: i, entries: s.entries})
	i.mu.Lock()
	i.servers[s] = struct{}{}
	i.mu.Unlock()
	return s, nil
}

// Serve serves until ctx ends, then cuts the streams and removes the socket. It must
// be called once.
func (s *Server) Serve(ctx context.Context) error {
	defer func() {
		s.issuer.mu.Lock()
		defer s.issuer.mu.Unlock()
		delete(s.issuer.servers, s)
	}()
	stop := context.AfterFunc(ctx, s.grpc.Stop)
	defer stop()
	if err := s.grpc.Serve(s.listener); err != nil && ctx.Err() == nil {
		return fmt.Errorf("embedded issuer: serve %q: %w", s.listener.Addr(), err)
	}
	return nil
}

// Address returns the socket in the form of SPIFFE_ENDPOINT_SOCKET.
func (s *Server) Address() string { return "unix://" + s.listener.Addr().String() }

func listen(path string) (*net.UnixListener, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("path %q has %d bytes, the system allows %d; choose a shorter folder", path, len(path), maxSocketPath)
	}
	if err := privateFolder(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	// Between bind and chmod the folder's mode keeps everybody else out.
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// privateFolder makes the folder, or checks that the one that is there is ours alone.
func privateFolder(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return fmt.Errorf("%q is not a folder", dir)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("folder %q has mode %#o, others could reach the socket; use a folder of its own with mode 0700", dir, info.Mode().Perm())
	case !ok || int(owner.Uid) != os.Geteuid():
		return fmt.Errorf("folder %q belongs to another user; use a folder of this user", dir)
	}
	return nil
}

// removeStale removes a socket that a dead process has left.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("%q is there and is not a socket; remove it or choose another path", path)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		return errors.Join(fmt.Errorf("%q is in use by another process; choose another path", path), c.Close())
	}
	return os.Remove(path)
}

// entries is the list of one socket. changed is closed and replaced at each change.
type entries struct {
	mu      sync.Mutex
	list    []Entry
	changed chan struct{}
}

func newEntries(list []Entry) *entries {
	own := uint32(os.Geteuid())
	list = slices.Clone(list)
	for n, e := range list {
		if len(e.UIDs) == 0 {
			list[n].UIDs = []uint32{own}
		}
	}
	return &entries{list: list, changed: make(chan struct{})}
}

// of returns the entries of a user, and what is closed when they may have changed.
func (e *entries) of(uid uint32) ([]Entry, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var mine []Entry
	for _, entry := range e.list {
		if slices.Contains(entry.UIDs, uid) {
			mine = append(mine, entry)
		}
	}
	return mine, e.changed
}

func (e *entries) remove(id spiffeid.ID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	before := len(e.list)
	e.list = slices.DeleteFunc(e.list, func(entry Entry) bool { return entry.ID == id })
	if len(e.list) == before {
		return false
	}
	close(e.changed)
	e.changed = make(chan struct{})
	return true
}
