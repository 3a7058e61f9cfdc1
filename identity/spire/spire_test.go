// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package spire

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/exp/proto/spiffe/broker"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	delegated "github.com/spiffe/spire-api-sdk/proto/spire/api/agent/delegatedidentity/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/identity/embedded"
	"github.com/egret-proxy/egret/identity/kernel"
	"github.com/egret-proxy/egret/identity/process"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	td    = spiffeid.RequireTrustDomainFromString("acme.example")
	alice = spiffeid.RequireFromString("spiffe://acme.example/alice")
	egret = spiffeid.RequireFromString("spiffe://acme.example/egret")
	node  = spiffeid.RequireFromString("spiffe://acme.example/spire/agent/join_token/1")
)

const aud = "https://vault.example"

// agent answers both APIs as SPIRE 1.15.2 does, with what the test sets. Its answers
// about tokens are those of all identities, whatever was asked for.
type agent struct {
	issuer *embedded.Issuer
	ids    []spiffeid.ID
	err    error
	swap   bool // state one ID and send the SVID of another
	asked  chan string
}

func newAgent(t *testing.T, ids ...spiffeid.ID) *agent {
	t.Helper()
	i, err := embedded.New(embedded.Options{TrustDomain: td})
	if err != nil {
		t.Fatal(err)
	}
	return &agent{issuer: i, ids: ids, asked: make(chan string, 10)}
}

func (a *agent) raw(id spiffeid.ID) (chain [][]byte, key []byte) {
	svid, err := a.issuer.MintX509(id, 0)
	if err != nil {
		panic(err)
	}
	der, key, err := svid.MarshalRaw()
	if err != nil {
		panic(err)
	}
	return [][]byte{der}, key
}

func (a *agent) stated(id spiffeid.ID) spiffeid.ID {
	if a.swap {
		return egret
	}
	return id
}

func protoID(id spiffeid.ID) *types.SPIFFEID {
	return &types.SPIFFEID{TrustDomain: id.TrustDomain().Name(), Path: id.Path()}
}

// admin is its admin socket.
type admin struct {
	delegated.UnimplementedDelegatedIdentityServer
	*agent
}

func (a admin) SubscribeToX509SVIDs(r *delegated.SubscribeToX509SVIDsRequest, s grpc.ServerStreamingServer[delegated.SubscribeToX509SVIDsResponse]) error {
	if len(r.Selectors) != 0 || r.Pid != int32(os.Getpid()) {
		return status.Errorf(codes.InvalidArgument, "asked about %v", r)
	}
	if a.err != nil {
		return a.err
	}
	m := &delegated.SubscribeToX509SVIDsResponse{}
	for _, id := range a.ids {
		chain, key := a.raw(id)
		m.X509Svids = append(m.X509Svids, &delegated.X509SVIDWithKey{
			X509Svid:    &types.X509SVID{Id: protoID(a.stated(id)), CertChain: chain, Hint: "h"},
			X509SvidKey: key,
		})
	}
	if err := s.Send(m); err != nil {
		return err
	}
	<-s.Context().Done()
	return nil
}

func (a admin) FetchJWTSVIDs(_ context.Context, r *delegated.FetchJWTSVIDsRequest) (*delegated.FetchJWTSVIDsResponse, error) {
	if a.err != nil {
		return nil, a.err
	}
	m := &delegated.FetchJWTSVIDsResponse{}
	for _, id := range a.ids {
		token, _ := a.issuer.MintJWT(id, r.Audience[0], 0)
		m.Svids = append(m.Svids, &types.JWTSVID{Id: protoID(a.stated(id)), Token: token.Reveal()})
	}
	return m, nil
}

func (a *agent) bundles(ctx context.Context, send func(map[string][]byte) error) error {
	b, err := a.issuer.Bundles().GetX509BundleForTrustDomain(td)
	if err != nil {
		return err
	}
	if err := send(map[string][]byte{td.IDString(): b.X509Authorities()[0].Raw}); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func (a admin) SubscribeToX509Bundles(_ *delegated.SubscribeToX509BundlesRequest, out grpc.ServerStreamingServer[delegated.SubscribeToX509BundlesResponse]) error {
	if a.err != nil {
		return a.err
	}
	return a.bundles(out.Context(), func(m map[string][]byte) error {
		return out.Send(&delegated.SubscribeToX509BundlesResponse{CaCertificates: m})
	})
}

func (a admin) SubscribeToJWTBundles(_ *delegated.SubscribeToJWTBundlesRequest, out grpc.ServerStreamingServer[delegated.SubscribeToJWTBundlesResponse]) error {
	b, err := a.issuer.Bundles().GetJWTBundleForTrustDomain(td)
	if err != nil {
		return err
	}
	jwks, err := b.Marshal()
	if err != nil {
		return err
	}
	if err := out.Send(&delegated.SubscribeToJWTBundlesResponse{Bundles: map[string][]byte{td.IDString(): jwks}}); err != nil {
		return err
	}
	<-out.Context().Done()
	return nil
}

// brokers is its broker endpoint.
type brokers struct {
	broker.UnimplementedAPIServer
	*agent
}

// check is what SPIRE's endpoint checks of each call.
func (s brokers) check(ctx context.Context, ref *broker.WorkloadReference) error {
	md, _ := metadata.FromIncomingContext(ctx)
	if h := md.Get("broker.spiffe.io"); len(h) != 1 || h[0] != "true" {
		return status.Error(codes.InvalidArgument, "security header missing from request")
	}
	s.asked <- ref.GetReference().String()
	return s.err
}

func (s brokers) SubscribeToX509SVID(r *broker.SubscribeToX509SVIDRequest, out grpc.ServerStreamingServer[broker.SubscribeToX509SVIDResponse]) error {
	if err := s.check(out.Context(), r.Reference); err != nil {
		return err
	}
	m := &broker.SubscribeToX509SVIDResponse{}
	for _, id := range s.ids {
		chain, key := s.raw(id)
		m.Svids = append(m.Svids, &broker.X509SVID{SpiffeId: s.stated(id).String(), X509Svid: chain[0], X509SvidKey: key, Hint: "h"})
	}
	if err := out.Send(m); err != nil {
		return err
	}
	<-out.Context().Done()
	return nil
}

// FetchJWTSVID ignores the ID that is asked for, as SPIRE 1.15 does.
func (s brokers) FetchJWTSVID(ctx context.Context, r *broker.FetchJWTSVIDRequest) (*broker.FetchJWTSVIDResponse, error) {
	if err := s.check(ctx, r.Reference); err != nil {
		return nil, err
	}
	m := &broker.FetchJWTSVIDResponse{}
	for _, id := range s.ids {
		token, _ := s.issuer.MintJWT(id, r.Audience[0], 0)
		m.Svids = append(m.Svids, &broker.JWTSVID{SpiffeId: s.stated(id).String(), Svid: token.Reveal()})
	}
	return m, nil
}

// serve serves one of them on a socket.
func serve(t *testing.T, register func(*grpc.Server), o ...grpc.ServerOption) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(append(o, grpc.WaitForHandlers(true))...)
	register(s)
	done := make(chan error)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "unix://" + path
}

func (a *agent) delegated(t *testing.T) *Delegated {
	t.Helper()
	d, err := NewDelegated(serve(t, func(s *grpc.Server) { delegated.RegisterDelegatedIdentityServer(s, admin{agent: a}) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// own is an identity and its bundles, for one end of the TLS connection.
type own struct {
	*x509svid.SVID
	embedded.Bundles
}

func (o own) GetX509SVID() (*x509svid.SVID, error) { return o.SVID, nil }

func (a *agent) as(t *testing.T, id spiffeid.ID) own {
	t.Helper()
	svid, err := a.issuer.MintX509(id, 0)
	if err != nil {
		t.Fatal(err)
	}
	return own{svid, a.issuer.Bundles()}
}

func (a *agent) broker(t *testing.T, o BrokerOptions, server spiffeid.ID) *Broker {
	t.Helper()
	id := a.as(t, server)
	c := tlsconfig.MTLSServerConfig(id, id, tlsconfig.AuthorizeID(egret))
	c.SessionTicketsDisabled = true
	c.MinVersion = tls.VersionTLS12
	o.Address = serve(t, func(s *grpc.Server) { broker.RegisterAPIServer(s, brokers{agent: a}) }, grpc.Creds(credentials.NewTLS(c)))
	if o.SVIDs == nil {
		o.SVIDs = a.as(t, egret)
	}
	o.Bundles, o.Agent = a.issuer.Bundles(), AgentOf(td)
	b, err := NewBroker(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func self(t *testing.T) process.Reference {
	t.Helper()
	p, err := kernel.Open(os.Getpid())
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return process.Reference{Process: p}
}

// both are the two attestors in front of one agent.
func both(t *testing.T, a *agent) map[string]process.Attestor {
	return map[string]process.Attestor{"delegated": a.delegated(t), "broker": a.broker(t, BrokerOptions{}, node)}
}

var errEnough = errors.New("enough")

// first returns the first answer.
func first(t *testing.T, a process.Attestor, r process.Reference) ([]*x509svid.SVID, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	var got []*x509svid.SVID
	err := a.Watch(ctx, r, func(svids []*x509svid.SVID) error { got = svids; return errEnough })
	if errors.Is(err, errEnough) {
		err = nil
	}
	return got, err
}

func TestWatch(t *testing.T) {
	ref := self(t)
	for name, at := range both(t, newAgent(t, alice, egret)) {
		svids, err := first(t, at, ref)
		if err != nil || len(svids) != 2 || svids[0].ID != alice || svids[1].ID != egret || svids[0].Hint != "h" || svids[0].PrivateKey == nil {
			t.Errorf("%s: got %v, %v", name, svids, err)
		}
	}
	for name, at := range both(t, newAgent(t)) {
		if svids, err := first(t, at, ref); err != nil || svids == nil || len(svids) != 0 {
			t.Errorf("%s: no entry: %v, %v; want an empty answer", name, svids, err)
		}
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	ref := self(t)
	for name, at := range both(t, newAgent(t, alice)) {
		ctx, cancel := context.WithCancel(t.Context())
		err := at.Watch(ctx, ref, func([]*x509svid.SVID) error { cancel(); return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestMUST_I7_TokenOfTheOneIdentity: agents return tokens of all identities, also where
// one was asked for.
func TestMUST_I7_TokenOfTheOneIdentity(t *testing.T) {
	ref := self(t)
	for name, at := range both(t, newAgent(t, egret, alice)) {
		got, ends, err := at.JWTSVID(t.Context(), ref, alice, aud)
		if err != nil || !ends.After(time.Now()) {
			t.Errorf("%s: %v, %v", name, ends, err)
			continue
		}
		if _, _, err := only([]token{{alice.String(), got.Reveal()}}, alice, aud); err != nil {
			t.Errorf("%s: not alice's: %v", name, err)
		}
		other := spiffeid.RequireFromString("spiffe://acme.example/other")
		if token, _, err := at.JWTSVID(t.Context(), ref, other, aud); !errors.Is(err, identity.ErrRevoked) || !token.IsZero() {
			t.Errorf("%s: a token of an identity that it has not: %v", name, err)
		}
	}
	a := newAgent(t, alice)
	a.swap = true
	for name, at := range both(t, a) {
		if token, _, err := at.JWTSVID(t.Context(), ref, egret, aud); !errors.Is(err, identity.ErrInvalid) || !token.IsZero() {
			t.Errorf("%s: a token that is another's than stated: %v", name, err)
		}
		if svids, err := first(t, at, ref); !errors.Is(err, identity.ErrInvalid) {
			t.Errorf("%s: an SVID that is another's than stated: %v, %v", name, svids, err)
		}
	}
}

func TestErrors(t *testing.T) {
	ref := self(t)
	tests := []struct {
		code              codes.Code
		delegated, broker error
	}{
		{codes.PermissionDenied, identity.ErrRevoked, identity.ErrRevoked},
		{codes.NotFound, identity.ErrUnavailable, identity.ErrGone},
		{codes.Internal, identity.ErrUnavailable, identity.ErrGone},
		{codes.Unavailable, identity.ErrUnavailable, identity.ErrUnavailable},
		{codes.InvalidArgument, identity.ErrInvalid, identity.ErrInvalid},
		{codes.Unauthenticated, identity.ErrUnavailable, identity.ErrUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.code.String(), func(t *testing.T) {
			a := newAgent(t, alice)
			a.err = status.Error(tt.code, "no")
			for name, at := range both(t, a) {
				want := tt.delegated
				if name == "broker" {
					want = tt.broker
				}
				if _, err := first(t, at, ref); !errors.Is(err, want) {
					t.Errorf("%s: Watch: %v, want %v", name, err, want)
				}
				if _, _, err := at.JWTSVID(t.Context(), ref, alice, aud); !errors.Is(err, want) {
					t.Errorf("%s: JWTSVID: %v, want %v", name, err, want)
				}
			}
		})
	}
}

func TestAgentIsAway(t *testing.T) {
	ref := self(t)
	d, err := NewDelegated("unix:///nowhere/s")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := first(t, d, ref); !errors.Is(err, identity.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if err := d.Authorized(t.Context()); !errors.Is(err, identity.ErrUnavailable) {
		t.Errorf("Authorized: %v", err)
	}
}

func TestReferences(t *testing.T) {
	const uid = "0f4c1b52-6f1a-4b7e-9d0c-1a2b3c4d5e6f"
	ref := self(t)
	a := newAgent(t, alice)
	for name, tt := range map[string]struct {
		pods bool
		ref  process.Reference
		want string
		err  error
	}{
		"by PID":           {false, ref, "spiffe.broker.WorkloadPIDReference", nil},
		"by pod":           {true, process.Reference{PodUID: uid}, uid, nil},
		"by pod, in none":  {true, ref, "", identity.ErrUnknown},
		"by PID, not held": {false, process.Reference{PodUID: uid}, "", identity.ErrUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			b := a.broker(t, BrokerOptions{Pods: tt.pods}, node)
			if _, err := first(t, b, tt.ref); !errors.Is(err, tt.err) {
				t.Fatalf("got %v, want %v", err, tt.err)
			}
			if tt.err != nil {
				_, _, err := b.JWTSVID(t.Context(), tt.ref, alice, aud)
				if !errors.Is(err, tt.err) {
					t.Errorf("JWT-SVID: %v, want %v", err, tt.err)
				}
				return
			}
			if asked := <-a.asked; !strings.Contains(asked, tt.want) {
				t.Errorf("asked about %s, want %s", asked, tt.want)
			}
		})
	}
	d := a.delegated(t)
	if _, err := first(t, d, process.Reference{PodUID: uid}); !errors.Is(err, identity.ErrUnknown) {
		t.Errorf("delegated without a process: %v", err)
	}
	if _, _, err := d.JWTSVID(t.Context(), process.Reference{}, alice, aud); !errors.Is(err, identity.ErrUnknown) {
		t.Errorf("delegated without a process: %v", err)
	}
}

// TestMUST_I9_PodIsGone: a pod that the kubelet does not have any more has no identity; a
// kubelet that does not answer takes nothing back.
func TestMUST_I9_PodIsGone(t *testing.T) {
	ref := process.Reference{PodUID: "0f4c1b52-6f1a-4b7e-9d0c-1a2b3c4d5e6f"}
	for code, want := range map[codes.Code]error{
		codes.NotFound: identity.ErrRevoked, codes.PermissionDenied: identity.ErrRevoked, codes.Internal: identity.ErrUnavailable,
		codes.Unimplemented: identity.ErrInvalid,
	} {
		a := newAgent(t, alice)
		a.err = status.Error(code, "no")
		b := a.broker(t, BrokerOptions{Pods: true}, node)
		if _, err := first(t, b, ref); !errors.Is(err, want) {
			t.Errorf("%s: Watch: %v, want %v", code, err, want)
		}
		if _, _, err := b.JWTSVID(t.Context(), ref, alice, aud); !errors.Is(err, want) {
			t.Errorf("%s: JWTSVID: %v, want %v", code, err, want)
		}
	}
}

// TestBrokerAuthorized: what the agent says about egret itself, and what to change.
func TestBrokerAuthorized(t *testing.T) {
	ref := self(t)
	for name, tt := range map[string]struct {
		pods bool
		code codes.Code
		want error
		hint string
	}{
		"by PID":               {false, codes.OK, nil, ""},
		"by pod":               {true, codes.NotFound, nil, ""},
		"type not allowed":     {false, codes.PermissionDenied, identity.ErrRevoked, "spiffe.broker.WorkloadPIDReference in the agent's experimental.broker.brokers"},
		"pods not allowed":     {true, codes.PermissionDenied, identity.ErrRevoked, "spiffe.broker.KubernetesObjectReference in the agent's"},
		"nobody attests pods":  {true, codes.Unimplemented, identity.ErrInvalid, "WorkloadAttestor"},
		"the kubelet is away":  {true, codes.Internal, identity.ErrUnavailable, ""},
		"our process is gone?": {false, codes.NotFound, identity.ErrGone, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAgent(t, alice)
			if tt.code != codes.OK {
				a.err = status.Error(tt.code, "no")
			}
			err := a.broker(t, BrokerOptions{Pods: tt.pods}, node).Authorized(t.Context(), ref)
			if !errors.Is(err, tt.want) || err != nil && !strings.Contains(err.Error(), tt.hint) {
				t.Errorf("got %v, want %v, %q", err, tt.want, tt.hint)
			}
		})
	}
	a := newAgent(t, alice)
	err := a.broker(t, BrokerOptions{SVIDs: a.as(t, alice)}, node).Authorized(t.Context(), ref)
	if !errors.Is(err, identity.ErrRevoked) || !strings.Contains(err.Error(), "name egret's SPIFFE ID") {
		t.Errorf("a broker that the agent does not list: %v", err)
	}
	if err := a.broker(t, BrokerOptions{}, node).Authorized(t.Context(), process.Reference{}); !errors.Is(err, identity.ErrUnknown) {
		t.Errorf("nobody to ask about: %v", err)
	}
}

// TestBrokerIsTheAgents: a workload that listens at the endpoint's address is told
// nothing, nor is a broker served that the agent does not know.
func TestBrokerIsTheAgents(t *testing.T) {
	ref := self(t)
	a := newAgent(t, alice)
	if _, err := first(t, a.broker(t, BrokerOptions{}, alice), ref); err == nil || len(a.asked) != 0 {
		t.Errorf("a workload is taken for the agent: %v, asked %d times", err, len(a.asked))
	}
	if _, err := first(t, a.broker(t, BrokerOptions{SVIDs: a.as(t, alice)}, node), ref); err == nil || len(a.asked) != 0 {
		t.Errorf("the agent serves another: %v, asked %d times", err, len(a.asked))
	}
}

func TestBundles(t *testing.T) {
	a := newAgent(t)
	d := a.delegated(t)
	var b Bundles
	if _, err := b.GetX509BundleForTrustDomain(td); !errors.Is(err, identity.ErrUnavailable) {
		t.Errorf("before the first answer: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- d.WatchBundles(ctx, &b) }()
	for deadline := time.Now().Add(5 * time.Second); b.x509.Load() == nil || b.jwt.Load() == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no bundles")
		}
	}
	svid, err := a.issuer.MintX509(alice, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := x509svid.Verify(svid.Certificates, &b); err != nil {
		t.Error(err)
	}
	if j, err := b.GetJWTBundleForTrustDomain(td); err != nil || j.Empty() {
		t.Errorf("JWT bundle: %v, %v", j, err)
	}
	if _, err := b.GetX509BundleForTrustDomain(spiffeid.RequireTrustDomainFromString("enemy.example")); err == nil {
		t.Error("an unknown trust domain has a bundle")
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("WatchBundles: %v", err)
	}
	if _, err := b.GetX509BundleForTrustDomain(td); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if err := d.Authorized(t.Context()); err != nil {
		t.Errorf("Authorized: %v", err)
	}
	a.err = status.Error(codes.PermissionDenied, "caller not configured as an authorized delegate")
	if err := d.Authorized(t.Context()); !errors.Is(err, identity.ErrRevoked) || !strings.Contains(err.Error(), "authorized_delegates") {
		t.Errorf("Authorized: %v", err)
	}
}

// TestKeep: an answer counts as a whole, and what is as before stays the same.
func TestKeep(t *testing.T) {
	a := newAgent(t)
	var b Bundles
	now, err := a.issuer.Bundles().GetX509BundleForTrustDomain(td)
	if err != nil {
		t.Fatal(err)
	}
	good := map[string][]byte{td.IDString(): now.X509Authorities()[0].Raw}
	take := func(raw map[string][]byte) error {
		return keep(&b.x509, raw, x509bundle.ParseRaw, (*x509bundle.Bundle).Equal)
	}
	if err := take(good); err != nil {
		t.Fatal(err)
	}
	before, _ := b.GetX509BundleForTrustDomain(td)
	if err := take(good); err != nil {
		t.Fatal(err)
	}
	if after, _ := b.GetX509BundleForTrustDomain(td); after != before {
		t.Error("a bundle that did not change is another one")
	}
	for name, raw := range map[string]map[string][]byte{
		"a bad name":   {td.IDString(): good[td.IDString()], "sp!ffe": nil},
		"a bad bundle": {td.IDString(): {1, 2, 3}},
	} {
		if err := take(raw); !errors.Is(err, identity.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after, _ := b.GetX509BundleForTrustDomain(td); after != before {
		t.Error("a bad answer has changed something")
	}
	if err := take(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := b.GetX509BundleForTrustDomain(td); err == nil {
		t.Error("a bundle that the agent has dropped is still there")
	}
}

func TestNewRefuses(t *testing.T) {
	for _, address := range []string{"", "/run/s", "unix:", "unix://s", "tcp://127.0.0.1:1", "unix:s"} {
		if _, err := NewDelegated(address); err == nil || !strings.Contains(err.Error(), "must be unix:///path") {
			t.Errorf("%q: %v", address, err)
		}
		if _, err := NewBroker(BrokerOptions{Address: address}); err == nil {
			t.Errorf("%q: %v", address, err)
		}
	}
	if _, err := NewBroker(BrokerOptions{Address: "unix:///s"}); err == nil {
		t.Error("a broker without an identity")
	}
}
