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
	// UIDs are the users whose processes get it; none: the issuer's own. Unless the issuer
	// is Shared, the socket's modes admit only its user and root, so this narrows and never
	// widens.
	UIDs []uint32
	// The others narrow it further; what is empty is not asked for. They need Linux.
	GIDs   []uint32 // effective group of the process
	Path   string   // of its program, which must be the file that the issuer sees there
	SHA256 string   // of its program, in hex
	Cgroup string   // path in the v2 hierarchy; groups below it match too
	Unit   string   // system unit of systemd that the cgroup belongs to, such as "a.service"
	Hint   string   // passed on as the SVID's hint
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
		if err := errors.Join(i.mayMint(e.ID, 0), e.check()); err != nil {
			return nil, err
		}
	}
	l, err := listen(socketPath, i.options.Shared)
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

func listen(path string, shared bool) (*net.UnixListener, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("path %q has %d bytes, the system allows %d; choose a shorter folder", path, len(path), maxSocketPath)
	}
	if err := ownFolder(filepath.Dir(path), shared); err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	// Between bind and chmod the folder's mode keeps everybody else out; where they are
	// let in it is the entries that say who gets what, at each call.
	mode := os.FileMode(0o600)
	if shared {
		mode = 0o666
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// ownFolder makes the folder, or checks that the one that is there is ours: others may
// not write into it, nor see into it unless the socket is shared.
func ownFolder(dir string, shared bool) error {
	mode, others := os.FileMode(0o700), os.FileMode(0o077)
	if shared {
		mode, others = 0o755, 0o022
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil { //nolint:gosec // only the folder below it is private
		return err
	}
	if err := os.Mkdir(dir, mode); err != nil && !errors.Is(err, os.ErrExist) {
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
	case info.Mode().Perm()&others != 0:
		return fmt.Errorf("folder %q has mode %#o, others could reach the socket; use a folder of its own with mode %#o", dir, info.Mode().Perm(), mode)
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
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil { //nolint:forbidigo // a local socket
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

// of returns the entries of a workload, and what is closed when they may have changed.
func (e *entries) of(w Workload) ([]Entry, <-chan struct{}) {
	e.mu.Lock()
	list, changed := slices.Clone(e.list), e.changed
	e.mu.Unlock()
	// A program is read and digested without the lock.
	mine := slices.DeleteFunc(list, func(entry Entry) bool { return !entry.matches(w) })
	return mine, changed
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
