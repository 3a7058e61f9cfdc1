// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/egret-proxy/egret/internal/saas"
)

// grpcClient is a grpc-go client that goes through egret.
func (w *world) grpcClient() (testpb.TestServiceClient, context.Context) {
	w.t.Helper()
	conn := must(grpc.NewClient("passthrough:///"+echoHost+":443",
		grpc.WithContextDialer(func(ctx context.Context, a string) (net.Conn, error) { return w.dialThrough(ctx, a) }),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: w.roots(), ServerName: echoHost}))))(w.t)
	w.t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	w.t.Cleanup(cancel)
	return testpb.NewTestServiceClient(conn), ctx
}

func TestGRPCUnaryWithMetadataAndTrailers(t *testing.T) {
	w := newWorld(t)
	c, ctx := w.grpcClient()
	var header, trailer metadata.MD
	ctx = metadata.AppendToOutgoingContext(ctx, saas.GRPCInitialKey, "hi", saas.GRPCTrailingKey, "bye")
	got, err := c.UnaryCall(ctx, &testpb.SimpleRequest{Payload: &testpb.Payload{Body: []byte("ping")}}, grpc.Header(&header), grpc.Trailer(&trailer))
	if err != nil || string(got.GetPayload().GetBody()) != "ping" {
		t.Fatalf("got %v %v", got, err)
	}
	if len(header.Get(saas.GRPCInitialKey)) != 1 || len(trailer.Get(saas.GRPCTrailingKey)) != 1 {
		t.Errorf("header %v, trailer %v", header, trailer)
	}
	_, err = c.UnaryCall(ctx, &testpb.SimpleRequest{ResponseStatus: &testpb.EchoStatus{Code: int32(codes.DataLoss), Message: "gone"}})
	if s := status.Convert(err); s.Code() != codes.DataLoss || s.Message() != "gone" {
		t.Errorf("the SaaS's own status: %v", err)
	}
	w.wait(2, func(r record) bool { return r.Proto == "h2" && r.Verdict == "allow" && r.Status == 200 })
}

func TestGRPCBidirectional(t *testing.T) {
	w := newWorld(t)
	c, ctx := w.grpcClient()
	s := must(c.FullDuplexCall(ctx))(t)
	for _, text := range []string{"one", "two", strings.Repeat("three", 50_000)} { // each answer before the next question
		if err := s.Send(&testpb.StreamingOutputCallRequest{Payload: &testpb.Payload{Body: []byte(text)}}); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Recv(); err != nil || string(got.GetPayload().GetBody()) != text {
			t.Fatalf("got %d bytes, %v", len(got.GetPayload().GetBody()), err)
		}
	}
	_ = s.CloseSend()
	if _, err := s.Recv(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func TestGRPCRefusalIsAStatus(t *testing.T) {
	w := newWorld(t, onlyPath("/grpc.testing.TestService/EmptyCall"))
	c, ctx := w.grpcClient()
	if _, err := c.EmptyCall(ctx, &testpb.Empty{}); err != nil {
		t.Errorf("what is allowed: %v", err)
	}
	var trailer metadata.MD // of a trailers-only answer
	_, err := c.UnaryCall(ctx, &testpb.SimpleRequest{}, grpc.Trailer(&trailer))
	s := status.Convert(err)
	if s.Code() != codes.PermissionDenied || !strings.Contains(s.Message(), "policy/path_not_allowed") {
		t.Errorf("unary: %v", err)
	}
	if got := trailer.Get("egret-decision"); len(got) != 1 {
		t.Errorf("the trailer was %v", trailer)
	}
	stream := must(c.FullDuplexCall(ctx))(t)
	if _, err := stream.Recv(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("stream: %v", err)
	}
	w.minter.fail.Store(errUnreachable)
	w.cache.Invalidate(w.echoKey(), w.minter.last.Load().Fingerprint())
	if _, err := c.EmptyCall(ctx, &testpb.Empty{}); status.Code(err) != codes.Unavailable {
		t.Errorf("no credential: %v", err)
	}
}
