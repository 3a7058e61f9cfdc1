// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"crypto/x509"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
)

// securityHeader must be on every call: a server-side request forgery that reaches the
// socket cannot set gRPC metadata (SPIFFE Workload Endpoint, section 4).
const securityHeader = "workload.spiffe.io"

func requireHeader(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	if !slices.Equal(md.Get(securityHeader), []string{"true"}) {
		return status.Errorf(codes.InvalidArgument, "security header missing: metadata %q must be %q", securityHeader, "true")
	}
	return nil
}

func requireHeaderUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := requireHeader(ctx); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func requireHeaderStream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := requireHeader(ss.Context()); err != nil {
		return err
	}
	return next(srv, ss)
}

// api implements the Workload API for the callers of one socket. The WIT-SVID calls
// answer Unimplemented, as the specification asks of servers without that profile.
type api struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	issuer  *Issuer
	entries *entries
}

// entitled returns the entries of the calling process, and what is closed when they may
// have changed. PermissionDenied where there are none.
func (a *api) entitled(ctx context.Context) ([]Entry, <-chan struct{}, error) {
	w, ok := peerWorkload(ctx)
	if !ok {
		return nil, nil, status.Error(codes.PermissionDenied, "the calling process is not known")
	}
	mine, changed := a.entries.of(w)
	if len(mine) == 0 {
		return nil, nil, status.Error(codes.PermissionDenied, "no identity issued")
	}
	return mine, changed, nil
}

// stream sends an answer now, and again when the entries or the authorities change
// and when the answer asks for it: send returns after how long (0: never).
func (a *api) stream(ctx context.Context, send func([]Entry, *authorities) (time.Duration, error)) error {
	for {
		mine, changed, err := a.entitled(ctx)
		if err != nil {
			return err
		}
		now, err := a.issuer.authorities()
		if err != nil {
			return status.Errorf(codes.Unavailable, "no authority: %v", err)
		}
		again, err := send(mine, now)
		if err != nil {
			return err
		}
		if err := wait(ctx, again, changed, now.changed); err != nil {
			return err
		}
	}
}

func wait(ctx context.Context, again time.Duration, entries, keys <-chan struct{}) error {
	var due <-chan time.Time
	if again > 0 {
		due = time.After(again)
	}
	select {
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	case <-due:
	case <-entries:
	case <-keys:
	}
	return nil
}

// FetchX509SVID streams the caller's SVIDs, renewed at half their life.
func (a *api) FetchX509SVID(_ *workload.X509SVIDRequest, s grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	return a.stream(s.Context(), func(mine []Entry, now *authorities) (time.Duration, error) {
		resp := &workload.X509SVIDResponse{FederatedBundles: now.federatedX509()}
		again := a.issuer.options.X509TTL / 2
		for _, e := range mine {
			svid, ends, err := a.x509SVID(e, now)
			if err != nil {
				return 0, status.Errorf(codes.Unavailable, "mint X.509-SVID: %v", err)
			}
			again = min(again, time.Until(ends)/2)
			resp.Svids = append(resp.Svids, svid)
		}
		return max(again, time.Millisecond), s.Send(resp)
	})
}

func (a *api) x509SVID(e Entry, now *authorities) (*workload.X509SVID, time.Time, error) {
	svid, err := now.signer.mintX509(e.ID, a.issuer.options.X509TTL)
	if err != nil {
		return nil, time.Time{}, err
	}
	certs, key, err := svid.MarshalRaw()
	return &workload.X509SVID{
		SpiffeId:    e.ID.String(),
		X509Svid:    certs,
		X509SvidKey: key,
		Bundle:      derOf(now.x509),
		Hint:        e.Hint,
	}, svid.Certificates[0].NotAfter, err
}

func derOf(b *x509bundle.Bundle) []byte {
	return slices.Concat(derList(b.X509Authorities())...)
}

func derList(certs []*x509.Certificate) [][]byte {
	list := make([][]byte, len(certs))
	for n, c := range certs {
		list[n] = c.Raw
	}
	return list
}

// FetchX509Bundles streams the trust domain's CA certificates.
func (a *api) FetchX509Bundles(_ *workload.X509BundlesRequest, s grpc.ServerStreamingServer[workload.X509BundlesResponse]) error {
	return a.stream(s.Context(), func(_ []Entry, now *authorities) (time.Duration, error) {
		bundles := now.federatedX509()
		bundles[a.issuer.options.TrustDomain.IDString()] = derOf(now.x509)
		return 0, s.Send(&workload.X509BundlesResponse{Bundles: bundles})
	})
}

// FetchJWTBundles streams the trust domain's JWT keys as a JWKS document.
func (a *api) FetchJWTBundles(_ *workload.JWTBundlesRequest, s grpc.ServerStreamingServer[workload.JWTBundlesResponse]) error {
	return a.stream(s.Context(), func(_ []Entry, now *authorities) (time.Duration, error) {
		bundles, err := now.jwks()
		if err != nil {
			return 0, status.Errorf(codes.Unavailable, "marshal JWT bundle: %v", err)
		}
		return 0, s.Send(&workload.JWTBundlesResponse{Bundles: bundles})
	})
}

// federatedX509 returns the bundles of other trust domains, by the ID of theirs.
func (a *authorities) federatedX509() map[string][]byte {
	out := make(map[string][]byte, len(a.foreign)+1)
	for _, f := range a.foreign {
		out[f.X509.TrustDomain().IDString()] = derOf(f.X509)
	}
	return out
}

func (a *authorities) jwks() (map[string][]byte, error) {
	all := []*jwtbundle.Bundle{a.jwt}
	for _, f := range a.foreign {
		if f.JWT != nil {
			all = append(all, f.JWT)
		}
	}
	out := make(map[string][]byte, len(all))
	for _, b := range all {
		jwks, err := b.Marshal()
		if err != nil {
			return nil, err
		}
		out[b.TrustDomain().IDString()] = jwks
	}
	return out, nil
}

// FetchJWTSVID issues a JWT-SVID of each of the caller's identities, or of the one that
// it asks for.
func (a *api) FetchJWTSVID(ctx context.Context, req *workload.JWTSVIDRequest) (*workload.JWTSVIDResponse, error) {
	if len(req.Audience) == 0 || slices.Contains(req.Audience, "") {
		return nil, status.Error(codes.InvalidArgument, "audience must be specified")
	}
	mine, _, err := a.entitled(ctx)
	if err != nil {
		return nil, err
	}
	now, err := a.issuer.authorities()
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "no authority: %v", err)
	}
	resp := &workload.JWTSVIDResponse{}
	for _, e := range mine {
		if req.SpiffeId != "" && req.SpiffeId != e.ID.String() {
			continue
		}
		token, err := now.signer.mintJWT(jwt.Claims{
			Issuer: a.issuer.options.JWTIssuer, Subject: e.ID.String(), Audience: req.Audience,
		}, a.issuer.options.JWTTTL)
		if err != nil {
			return nil, status.Errorf(codes.Unavailable, "mint JWT-SVID: %v", err)
		}
		resp.Svids = append(resp.Svids, &workload.JWTSVID{SpiffeId: e.ID.String(), Svid: token, Hint: e.Hint})
	}
	if len(resp.Svids) == 0 {
		return nil, status.Error(codes.PermissionDenied, "the requested identity is not issued to this caller")
	}
	return resp, nil
}

// ValidateJWTSVID validates a token of this trust domain for one audience.
func (a *api) ValidateJWTSVID(ctx context.Context, req *workload.ValidateJWTSVIDRequest) (*workload.ValidateJWTSVIDResponse, error) {
	if req.Audience == "" || req.Svid == "" {
		return nil, status.Error(codes.InvalidArgument, "audience and svid must be specified")
	}
	if _, _, err := a.entitled(ctx); err != nil {
		return nil, err
	}
	svid, err := jwtsvid.ParseAndValidate(req.Svid, a.issuer.Bundles(), []string{req.Audience})
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "token is not valid: %v", err)
	}
	claims, err := structpb.NewStruct(svid.Claims)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "claims: %v", err)
	}
	return &workload.ValidateJWTSVIDResponse{SpiffeId: svid.ID.String(), Claims: claims}, nil
}
