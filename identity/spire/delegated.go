// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package spire

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	delegated "github.com/spiffe/spire-api-sdk/proto/spire/api/agent/delegatedidentity/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/identity/process"
	"github.com/egret-proxy/egret/internal/secret"
)

// Delegated asks over the Delegated Identity API, by PID. The agent attests egret by the
// socket's peer, on every call, against its authorized_delegates; the socket is open to
// root only. The agent attests the workload itself: by selectors it would believe us,
// and so none are sent. It implements process.Attestor.
type Delegated struct {
	conn *grpc.ClientConn
	api  delegated.DelegatedIdentityClient
}

// NewDelegated makes a client of the agent's admin socket, unix:///path. It does no I/O.
func NewDelegated(address string) (*Delegated, error) {
	to, err := target("delegated identity API", address)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(to, append(dialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		return nil, fmt.Errorf("delegated identity API: %w", err)
	}
	return &Delegated{conn: conn, api: delegated.NewDelegatedIdentityClient(conn)}, nil
}

// Close closes the connection.
func (d *Delegated) Close() error { return d.conn.Close() }

// Watch implements process.Attestor. A PID that the agent cannot attest is Unavailable
// in its words, as is an agent that is not there: whether the process has ended is for
// the caller to see by its pidfd.
func (d *Delegated) Watch(ctx context.Context, r process.Reference, update func([]*x509svid.SVID) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if r.Process == nil {
		return fmt.Errorf("%w: %w", identity.ErrUnknown, errNoProcess)
	}
	stream, err := d.api.SubscribeToX509SVIDs(ctx, &delegated.SubscribeToX509SVIDsRequest{Pid: int32(r.Process.PID())})
	if err != nil {
		return broken(ctx, err)
	}
	return watch(stream, func(err error) error { return broken(ctx, err) }, func(m *delegated.SubscribeToX509SVIDsResponse) error {
		svids, err := delegatedSVIDs(m.GetX509Svids())
		if err != nil {
			return err
		}
		return update(svids)
	})
}

func delegatedSVIDs(list []*delegated.X509SVIDWithKey) ([]*x509svid.SVID, error) {
	out := make([]*x509svid.SVID, 0, len(list))
	for _, m := range list {
		v := m.GetX509Svid()
		svid, err := parse(idOf(v.GetId()), slices.Concat(v.GetCertChain()...), m.GetX509SvidKey(), v.GetHint())
		if err != nil {
			return nil, err
		}
		out = append(out, svid)
	}
	return out, nil
}

func idOf(id *types.SPIFFEID) string { return "spiffe://" + id.GetTrustDomain() + id.GetPath() }

// JWTSVID implements process.Attestor.
func (d *Delegated) JWTSVID(ctx context.Context, r process.Reference, id spiffeid.ID, audience string) (secret.Secret, time.Time, error) {
	if r.Process == nil {
		return secret.Secret{}, time.Time{}, fmt.Errorf("%w: %w", identity.ErrUnknown, errNoProcess)
	}
	m, err := d.api.FetchJWTSVIDs(ctx, &delegated.FetchJWTSVIDsRequest{Audience: []string{audience}, Pid: int32(r.Process.PID())})
	if err != nil {
		return secret.Secret{}, time.Time{}, broken(ctx, err)
	}
	tokens := make([]token, 0, len(m.GetSvids()))
	for _, s := range m.GetSvids() {
		tokens = append(tokens, token{idOf(s.GetId()), s.GetToken()})
	}
	return only(tokens, id, audience)
}

// Authorized asks the agent whether egret may act for others at all, and returns
// ErrRevoked with what to change where it may not. It is for egret doctor.
func (d *Delegated) Authorized(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := d.api.SubscribeToX509Bundles(ctx, &delegated.SubscribeToX509BundlesRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if err == nil {
		return nil
	}
	err = broken(ctx, err)
	if errors.Is(err, identity.ErrRevoked) {
		return fmt.Errorf("%w; add egret's SPIFFE ID to authorized_delegates of the agent, and give egret a registration entry", err)
	}
	return err
}
