// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package spire asks a SPIRE agent which identities a local workload has: over the
// Delegated Identity API of its admin socket, or over the SPIFFE Broker API. The agent
// attests the workload itself, by a PID or a pod UID. Both APIs leave it to their client
// to see that the PID still belongs to the same process; package process does.
//
// A PID stands for a process here; over TCP package process can only name some process
// of the caller's cgroup and user. Registration entries that tell processes of one
// cgroup and user apart (unix:path, unix:sha256, unix:gid) must not decide who such
// callers are: leave discover_workload_path off where TCP listeners identify callers so.
package spire

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/internal/secret"
)

// Bounds of what an agent may send and how it is dialled again.
const (
	maxMessage = 4 << 20
	firstDial  = 100 * time.Millisecond
	lastDial   = 2 * time.Second // a restart is over in less than one
)

func dialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstDial, Multiplier: 1.6, Jitter: 0.2, MaxDelay: lastDial},
			MinConnectTimeout: 5 * time.Second,
		}),
	}
}

// target checks an address of the form unix:///path.
func target(what, address string) (string, error) {
	path, found := strings.CutPrefix(address, "unix://")
	if !found || !strings.HasPrefix(path, "/") {
		return "", fmt.Errorf("%s: address %q, must be unix:///path", what, address)
	}
	return address, nil
}

// kind says in identity's words what a status means. gone are the codes by which this
// API says that there is no such workload.
func kind(err error, gone ...codes.Code) error {
	switch code := status.Code(err); {
	case slices.Contains(gone, code):
		return identity.ErrGone
	case code == codes.PermissionDenied:
		return identity.ErrRevoked
	case code == codes.InvalidArgument, code == codes.Unimplemented:
		return identity.ErrInvalid
	}
	return identity.ErrUnavailable
}

// parse reads an X.509-SVID that an agent has sent, and holds it to its stated ID.
func parse(id string, chain, key []byte, hint string) (*x509svid.SVID, error) {
	svid, err := x509svid.ParseRaw(chain, key)
	if err != nil {
		return nil, fmt.Errorf("%w: X.509-SVID of %.200q: %w", identity.ErrInvalid, id, err)
	}
	if svid.ID.String() != id {
		return nil, fmt.Errorf("%w: X.509-SVID of %.200q is one of %q", identity.ErrInvalid, id, svid.ID)
	}
	svid.Hint = hint
	return svid, nil
}

// token is a JWT-SVID as an agent states it.
type token struct{ id, jwt string }

// only returns the one token of id (MUST I7): agents return those of every identity of
// the workload, also where one was asked for. Of several entries with one ID each has
// a token that is as good.
func only(tokens []token, id spiffeid.ID, audience string) (secret.Secret, time.Time, error) {
	for _, t := range tokens {
		if t.id != id.String() {
			continue
		}
		svid, err := jwtsvid.ParseInsecure(t.jwt, []string{audience})
		if err != nil || svid.ID != id {
			// The parser's error may quote the token.
			return secret.Secret{}, time.Time{}, fmt.Errorf("%w: the agent's JWT-SVID of %q for %q does not parse as that", identity.ErrInvalid, id, audience)
		}
		return secret.New(t.jwt), svid.Expiry, nil
	}
	return secret.Secret{}, time.Time{}, fmt.Errorf("%w: the agent has issued %d JWT-SVIDs, none of %q", identity.ErrRevoked, len(tokens), id)
}

// receiver is the receiving end of a stream.
type receiver[T any] interface{ Recv() (*T, error) }

// watch receives until the stream breaks off, which broken puts into our words, or an
// answer is not wanted any more.
func watch[T any](stream receiver[T], broken func(error) error, use func(*T) error) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return broken(err)
		}
		if err := use(m); err != nil {
			return err
		}
	}
}

func broken(ctx context.Context, err error, gone ...codes.Code) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w: SPIRE agent: %w", kind(err, gone...), err)
}

var errNoProcess = errors.New("the caller's process is not known")
