// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package spire

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/exp/proto/spiffe/broker"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/identity/process"
	"github.com/egret-proxy/egret/internal/secret"
)

// BrokerOptions configure a Broker. All but Pods are required.
type BrokerOptions struct {
	Address string // unix:///path of the SPIFFE Broker Endpoint
	// SVIDs is egret's own identity, which the agent must list among its brokers, and
	// Bundles verifies the agent's: identity.Source is both.
	SVIDs   x509svid.Source
	Bundles x509bundle.Source
	// Agent says whose endpoint it is; nothing is sent to another.
	Agent tlsconfig.Authorizer
	// Pods asks by the UID of the caller's pod, where it has one, and not by a PID. The
	// agent then knows the pod and not the container: entries with k8s:container-name or
	// unix selectors do not match.
	Pods bool
}

// Broker asks over the SPIFFE Broker API, with mutual TLS. The agent resolves the
// workload itself and says which kinds of reference we may use. It implements
// process.Attestor.
type Broker struct {
	conn *grpc.ClientConn
	api  broker.APIClient
	pods bool
}

// NewBroker makes a client. It does no I/O.
func NewBroker(o BrokerOptions) (*Broker, error) {
	to, err := target("SPIFFE broker API", o.Address)
	if err != nil {
		return nil, err
	}
	if o.SVIDs == nil || o.Bundles == nil || o.Agent == nil {
		return nil, errors.New("SPIFFE broker API: it needs egret's own SVID, the bundles, and who the agent is")
	}
	// The client caches no sessions, so that every connection is verified in full.
	tls := credentials.NewTLS(tlsconfig.MTLSClientConfig(o.SVIDs, o.Bundles, o.Agent))
	conn, err := grpc.NewClient(to, append(dialOptions(), grpc.WithTransportCredentials(tls), grpc.WithAuthority("localhost"))...)
	if err != nil {
		return nil, fmt.Errorf("SPIFFE broker API: %w", err)
	}
	return &Broker{conn: conn, api: broker.NewAPIClient(conn), pods: o.Pods}, nil
}

// AgentOf accepts the SPIRE agents of a trust domain: IDs below /spire/agent/, which
// SPIRE gives to agents only.
func AgentOf(td spiffeid.TrustDomain) tlsconfig.Authorizer {
	return tlsconfig.AuthorizeIDPrefix(spiffeid.RequireFromPath(td, "/spire/agent"))
}

// Close closes the connection.
func (b *Broker) Close() error { return b.conn.Close() }

// brokerHeader must be on every call (SPIFFE Broker Endpoint): a forged request that
// reaches the socket cannot set metadata.
const brokerHeader = "broker.spiffe.io"

func withHeader(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, brokerHeader, "true")
}

// notThere are the codes for a workload that is not there. The standard says NotFound;
// SPIRE's unix attestor says Internal for a PID that no process has.
func notThere() []codes.Code { return []codes.Code{codes.NotFound, codes.Internal} }

// reference makes the Any that names the workload.
func (b *Broker) reference(r process.Reference) (*broker.WorkloadReference, error) {
	var m proto.Message
	switch {
	case b.pods && r.PodUID != "":
		m = &broker.KubernetesObjectReference{Type: &broker.KubernetesObjectType{Plural: "pods", Group: "core"}, Uid: r.PodUID}
	case b.pods:
		return nil, fmt.Errorf("%w: the caller is in no pod's cgroup (%.200q)", identity.ErrUnknown, r.Cgroup)
	case r.Process != nil:
		m = &broker.WorkloadPIDReference{Pid: int32(r.Process.PID())}
	default:
		return nil, fmt.Errorf("%w: %w", identity.ErrUnknown, errNoProcess)
	}
	packed, err := anypb.New(m)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", identity.ErrInvalid, err)
	}
	return &broker.WorkloadReference{Reference: packed}, nil
}

// Watch implements process.Attestor.
func (b *Broker) Watch(ctx context.Context, r process.Reference, update func([]*x509svid.SVID) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ref, err := b.reference(r)
	if err != nil {
		return err
	}
	stream, err := b.api.SubscribeToX509SVID(withHeader(ctx), &broker.SubscribeToX509SVIDRequest{Reference: ref})
	if err != nil {
		return broken(ctx, err, notThere()...)
	}
	return watch(ctx, stream, func(m *broker.SubscribeToX509SVIDResponse) error {
		svids, err := brokerSVIDs(m.GetSvids())
		if err != nil {
			return err
		}
		return update(svids)
	}, notThere()...)
}

func brokerSVIDs(list []*broker.X509SVID) ([]*x509svid.SVID, error) {
	out := make([]*x509svid.SVID, 0, len(list))
	for _, v := range list {
		svid, err := parse(v.GetSpiffeId(), v.GetX509Svid(), v.GetX509SvidKey(), v.GetHint())
		if err != nil {
			return nil, err
		}
		out = append(out, svid)
	}
	return out, nil
}

// JWTSVID implements process.Attestor. The ID is asked for, and looked for in the
// answer all the same: SPIRE 1.15 ignores it.
func (b *Broker) JWTSVID(ctx context.Context, r process.Reference, id spiffeid.ID, audience string) (secret.Secret, time.Time, error) {
	ref, err := b.reference(r)
	if err != nil {
		return secret.Secret{}, time.Time{}, err
	}
	m, err := b.api.FetchJWTSVID(withHeader(ctx), &broker.FetchJWTSVIDRequest{Reference: ref, Audience: []string{audience}, SpiffeId: id.String()})
	if err != nil {
		return secret.Secret{}, time.Time{}, broken(ctx, err, notThere()...)
	}
	tokens := make([]token, 0, len(m.GetSvids()))
	for _, s := range m.GetSvids() {
		tokens = append(tokens, token{s.GetSpiffeId(), s.GetSvid()})
	}
	return only(tokens, id, audience)
}
