// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package spire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
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
	"google.golang.org/grpc/status"
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
	// Pods asks by the UID of the caller's pod and not by a PID; callers outside of pods are
	// refused. The agent then resolves the pod with its kubelet and knows no container: it
	// tells pod-level selectors only (k8s:ns, k8s:sa, k8s:pod-…), and entries with
	// k8s:container-… or unix: selectors do not match (SPIRE 1.15). What the agent takes our
	// word for is the UID.
	Pods bool
}

// Broker asks over the SPIFFE Broker API, with mutual TLS. The agent resolves the
// workload itself and says which kinds of reference we may use. It implements
// process.Attestor.
type Broker struct {
	conn *grpc.ClientConn
	api  broker.APIClient
	path string
	tls  *tls.Config
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
	conf := tlsconfig.MTLSClientConfig(o.SVIDs, o.Bundles, o.Agent)
	conn, err := grpc.NewClient(to, append(dialOptions(), grpc.WithTransportCredentials(credentials.NewTLS(conf)), grpc.WithAuthority("localhost"))...)
	if err != nil {
		return nil, fmt.Errorf("SPIFFE broker API: %w", err)
	}
	return &Broker{conn: conn, api: broker.NewAPIClient(conn), path: strings.TrimPrefix(to, "unix://"), tls: conf, pods: o.Pods}, nil
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

// broken says in identity's words why a call ended. Of a PID that no process has, the
// standard says NotFound, and SPIRE's unix attestor Internal. A pod is looked up by name:
// NotFound is the kubelet's word that it is not on this node any more, which takes back
// what has been said about it (MUST I9), and Internal that the kubelet cannot be asked.
func (b *Broker) broken(ctx context.Context, err error) error {
	if !b.pods {
		return broken(ctx, err, codes.NotFound, codes.Internal)
	}
	if ctx.Err() == nil && status.Code(err) == codes.NotFound {
		return fmt.Errorf("%w: SPIRE agent: %w", identity.ErrRevoked, err)
	}
	return broken(ctx, err)
}

func podReference(uid string) *broker.KubernetesObjectReference {
	return &broker.KubernetesObjectReference{Type: &broker.KubernetesObjectType{Plural: "pods", Group: "core"}, Uid: uid}
}

// reference makes the Any that names the workload.
func (b *Broker) reference(r process.Reference) (*broker.WorkloadReference, error) {
	var m proto.Message
	switch {
	case b.pods && r.PodUID != "":
		m = podReference(r.PodUID)
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
		return b.broken(ctx, err)
	}
	return watch(stream, func(err error) error { return b.broken(ctx, err) }, func(m *broker.SubscribeToX509SVIDResponse) error {
		svids, err := brokerSVIDs(m.GetSvids())
		if err != nil {
			return err
		}
		return update(svids)
	})
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
		return secret.Secret{}, time.Time{}, b.broken(ctx, err)
	}
	tokens := make([]token, 0, len(m.GetSvids()))
	for _, s := range m.GetSvids() {
		tokens = append(tokens, token{s.GetSpiffeId(), s.GetSvid()})
	}
	return only(tokens, id, audience)
}

// nobody is the UID of no pod (RFC 9562, section 5.9).
const nobody = "00000000-0000-0000-0000-000000000000"

// Authorized asks the agent whether egret may ask about others in the way that it does,
// by a reference to self, which is this process, or to a pod that is not there. Errors:
// ErrRevoked, ErrInvalid where the agent knows no such references, ErrUnavailable; the
// first two say what to change. It is for egret doctor.
func (b *Broker) Authorized(ctx context.Context, self process.Reference) error {
	if b.pods {
		self = process.Reference{PodUID: nobody}
	}
	ref, err := b.reference(self)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := b.api.SubscribeToX509SVID(withHeader(ctx), &broker.SubscribeToX509SVIDRequest{Reference: ref})
	if err == nil {
		_, err = stream.Recv()
	}
	switch code := status.Code(err); {
	case err == nil, b.pods && code == codes.NotFound:
		return nil
	case code == codes.PermissionDenied:
		return fmt.Errorf("%w; allow it %s in the agent's experimental.broker.brokers, and in experimental.broker of its k8s attestor", b.broken(ctx, err), ref.GetReference().GetTypeUrl())
	case code == codes.Unavailable && b.shutOut(ctx):
		return fmt.Errorf("%w: SPIRE agent: it ends the TLS handshake of who is no broker; name egret's SPIFFE ID in the agent's experimental.broker.brokers", identity.ErrRevoked)
	case code == codes.Unimplemented:
		return fmt.Errorf("%w; give the agent a WorkloadAttestor that knows %s (k8s)", b.broken(ctx, err), ref.GetReference().GetTypeUrl())
	}
	return b.broken(ctx, err)
}

// alertWait is how long an agent may take to send an alert, which it does at once.
const alertWait = time.Second

// shutOut reports whether the agent ends the handshake of a broker that is not on its
// list. It does so after the client's part of TLS 1.3 is over, and gRPC may see no more
// of it than a connection that breaks.
func (b *Broker) shutOut(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, alertWait)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "unix", b.path)
	if err != nil {
		return false
	}
	defer func() { _ = raw.Close() }()
	end, _ := ctx.Deadline()
	if err := raw.SetDeadline(end); err != nil {
		return false
	}
	_, err = tls.Client(raw, b.tls).Read(make([]byte, 1))
	var alert *net.OpError // crypto/tls: remote error
	return errors.As(err, &alert) && alert.Op == "remote error"
}
