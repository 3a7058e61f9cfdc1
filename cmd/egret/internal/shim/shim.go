// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package shim is a loopback port for one program that can speak to an http:// proxy
// only, and leads to an egret elsewhere that knows its callers by X.509-SVID: each
// connection of the program becomes a TLS connection to the node, with the program's
// SVID from the Workload API, and its bytes are passed on as they are. It decides
// nothing and reads nothing; the node does.
package shim

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"github.com/egret-proxy/egret/internal/sockopt"
)

// Options say which node to lead to and as whom.
type Options struct {
	// Node is host:port of the node's TLS listener, whose certificate must be for host.
	Node string
	// Roots verify it; nil: the system's.
	Roots *x509.CertPool
	// WorkloadAPI is unix:///path or tcp://ip:port; empty: $SPIFFE_ENDPOINT_SOCKET.
	WorkloadAPI string
	// ID selects the SVID where the agent gives several.
	ID spiffeid.ID
	// Connections that may be open at once; 0: 1000.
	Connections int
	// Note tells the user what would otherwise be a riddle; nil: nobody is told. It may be
	// called concurrently, once for each kind of trouble.
	Note func(string)
}

const (
	defaultConnections = 1000
	dialTime           = 10 * time.Second // connect and TLS
)

// Shim is one running shim. Make it with Start and Close it.
type Shim struct {
	options  Options
	listener *net.TCPListener
	source   *source
	client   *workloadapi.Client
	tls      *tls.Config
	uid      uint32
	places   chan struct{}

	ctx      context.Context //nolint:containedctx // the shim's life, which Close ends
	end      context.CancelFunc
	running  sync.WaitGroup
	stranger sync.Once
	unknown  sync.Once
}

// Start waits for the first SVID until ctx ends, and serves on a loopback port of its own
// until Close. The error says what to change.
func Start(ctx context.Context, o Options) (*Shim, error) {
	host, _, err := net.SplitHostPort(o.Node)
	if err != nil || host == "" {
		return nil, fmt.Errorf("node %q: must be host:port", o.Node)
	}
	if o.Connections == 0 {
		o.Connections = defaultConnections
	}
	if o.Note == nil {
		o.Note = func(string) {}
	}
	s := &Shim{options: o, source: newSource(o.ID), uid: uint32(os.Geteuid()), places: make(chan struct{}, o.Connections)}
	s.tls = &tls.Config{ServerName: host, RootCAs: o.Roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	s.ctx, s.end = context.WithCancel(context.WithoutCancel(ctx))
	if err := errors.Join(s.follow(), s.listen()); err != nil {
		s.Close()
		return nil, err
	}
	if err := s.source.await(ctx); err != nil {
		s.Close()
		return nil, err
	}
	s.running.Go(s.serve)
	return s, nil
}

// follow asks the Workload API for as long as the shim lives.
func (s *Shim) follow() (err error) {
	var opts []workloadapi.ClientOption
	if s.options.WorkloadAPI != "" {
		opts = append(opts, workloadapi.WithAddr(s.options.WorkloadAPI))
	}
	if s.client, err = workloadapi.New(s.ctx, opts...); err != nil {
		return fmt.Errorf("workload API: %w (write unix:///path, with --workload-api or in $%s)", err, workloadapi.SocketEnv)
	}
	s.running.Go(func() {
		// It tries again by itself; it ends with the shim, or on an answer that a second
		// question would not change.
		err := s.client.WatchX509Context(s.ctx, s.source)
		if s.ctx.Err() == nil {
			s.source.OnX509ContextWatchError(err)
		}
	})
	return nil
}

func (s *Shim) listen() (err error) {
	s.listener, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	return err
}

// URL is what the program takes for its proxy.
func (s *Shim) URL() string { return "http://" + s.listener.Addr().String() }

// Close ends the shim and every connection through it.
func (s *Shim) Close() {
	s.end()
	if s.listener != nil {
		_ = s.listener.Close()
	}
	s.running.Wait()
	if s.client != nil {
		_ = s.client.Close()
	}
}

// acceptPause is what a system that is out of descriptors is left alone for.
const acceptPause = 50 * time.Millisecond

func (s *Shim) serve() {
	for s.ctx.Err() == nil {
		c, err := s.listener.AcceptTCP()
		if err != nil {
			select {
			case <-s.ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		select {
		case s.places <- struct{}{}:
			s.running.Go(func() {
				defer func() { <-s.places }()
				s.handle(c)
			})
		default:
			// A refusal costs a goroutine too: beyond the bound there is none.
			_ = c.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = c.Write(full(s.options.Connections).bytes())
			_ = c.Close()
		}
	}
}

func (s *Shim) handle(c *net.TCPConn) {
	defer func() { _ = c.Close() }()
	defer context.AfterFunc(s.ctx, func() { _ = c.Close() })()
	if !s.mayUse(c) {
		return
	}
	_ = sockopt.Tune(c) // a bound on dead connections, not a condition
	cert, err := s.source.certificate()
	if err != nil {
		noSource(err).answer(c)
		return
	}
	node, err := s.dial(cert)
	if err != nil {
		noNode(err).answer(c)
		return
	}
	defer node.Close()
	defer context.AfterFunc(s.ctx, func() { _ = node.NetConn().Close() })()
	join(c, node)
}

// mayUse holds the port to our own user: any process of the machine can connect to it,
// and would be served with an SVID that is not its own.
func (s *Shim) mayUse(c net.Conn) bool {
	owner, err := sockopt.PeerOwner(c)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		s.unknown.Do(func() {
			s.options.Note("WARNING: this system does not say who connects: every user of this machine can use the port with this identity")
		})
		return true
	case err != nil:
		return false
	case owner.UID != s.uid:
		s.stranger.Do(func() {
			s.options.Note(fmt.Sprintf("a process of uid %d tried to use the port and was refused: only uid %d may", owner.UID, s.uid))
		})
		return false
	}
	return true
}

// dial makes the connection to the node that one of the program's becomes.
func (s *Shim) dial(cert *tls.Certificate) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, dialTime)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.options.Node)
	if err != nil {
		return nil, err
	}
	if tcp, ok := raw.(*net.TCPConn); ok {
		_ = sockopt.Tune(tcp)
	}
	config := s.tls.Clone()
	// Always, whatever authorities the node names: it verifies against SPIFFE bundles.
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}
