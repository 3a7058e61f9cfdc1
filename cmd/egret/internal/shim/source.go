// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// source follows the Workload API. What it last said counts until the SVID in it has
// ended; a denial counts at once.
type source struct {
	id      spiffeid.ID // zero: the only one that there is
	first   chan struct{}
	started sync.Once

	mu   sync.Mutex
	svid *x509svid.SVID
	err  error // why there is no svid, or what has gone wrong since
}

func newSource(id spiffeid.ID) *source {
	return &source{id: id, first: make(chan struct{}), err: errors.New("the Workload API has not answered yet")}
}

// certificate is what the next handshake shows.
func (s *source) certificate() (*tls.Certificate, error) {
	s.mu.Lock()
	svid, err := s.svid, s.err
	s.mu.Unlock()
	if svid == nil {
		return nil, err
	}
	if ends := svid.Certificates[0].NotAfter; !time.Now().Before(ends) {
		return nil, fmt.Errorf("the X.509-SVID ended at %s and the Workload API has not renewed it", ends.UTC().Format(time.RFC3339))
	}
	c := &tls.Certificate{PrivateKey: svid.PrivateKey, Leaf: svid.Certificates[0]}
	for _, cert := range svid.Certificates {
		c.Certificate = append(c.Certificate, cert.Raw)
	}
	return c, nil
}

// await returns once there is an SVID, or why there is none when ctx ends.
func (s *source) await(ctx context.Context) error {
	select {
	case <-s.first:
		return nil
	case <-ctx.Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		return fmt.Errorf("no X.509-SVID to show to the node: %w", s.err)
	}
}

// OnX509ContextUpdate implements workloadapi.X509ContextWatcher.
func (s *source) OnX509ContextUpdate(c *workloadapi.X509Context) {
	svid, err := s.choose(c.SVIDs)
	s.mu.Lock()
	s.svid, s.err = svid, err
	s.mu.Unlock()
	if svid != nil {
		s.started.Do(func() { close(s.first) })
	}
}

// choose takes the SVID with the wanted ID. Without one, the first of several is
// nobody's decision.
func (s *source) choose(list []*x509svid.SVID) (*x509svid.SVID, error) {
	if s.id.IsZero() {
		if len(list) != 1 {
			return nil, fmt.Errorf("the Workload API gives %d X.509-SVIDs: say which with --svid-id", len(list))
		}
		return list[0], nil
	}
	for _, svid := range list {
		if svid.ID == s.id {
			return svid, nil
		}
	}
	return nil, fmt.Errorf("the Workload API gives %d X.509-SVIDs, none of %q", len(list), s.id)
}

// OnX509ContextWatchError implements workloadapi.X509ContextWatcher. An agent that is
// not there takes nothing back; one that denies does.
func (s *source) OnX509ContextWatchError(err error) {
	code := status.Code(err)
	if code == codes.Canceled {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if code == codes.PermissionDenied {
		s.svid = nil
	}
	if s.svid == nil {
		s.err = fmt.Errorf("the Workload API: %w", err)
	}
}
