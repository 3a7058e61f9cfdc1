// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package saas

import (
	"context"
	"crypto/tls"
	"io"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
)

// grpcClient connects to an Echo over TLS; the context carries a good token.
func grpcClient(t *testing.T) (*grpc.ClientConn, context.Context) {
	t.Helper()
	ca, err := NewCA()
	if err != nil {
		t.Fatal(err)
	}
	tokens := NewIssuer(nil)
	s, err := Listen(ca, Host{Name: echoHost, Handler: NewEcho(EchoConfig{Tokens: tokens})})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(s.Addr(), grpc.WithTransportCredentials(credentials.NewTLS(
		&tls.Config{RootCAs: ca.Pool(), ServerName: echoHost})), grpc.WithAuthority(echoHost))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(); _ = s.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	t.Cleanup(cancel)
	return conn, metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+tokens.Issue(nil, time.Hour).Reveal())
}

func TestGRPCRequiresToken(t *testing.T) {
	conn, good := grpcClient(t)
	bare, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	twice := metadata.AppendToOutgoingContext(good, "authorization", "Bearer other")
	for name, ctx := range map[string]context.Context{"none": bare, "two": twice} {
		_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
		if status.Code(err) != codes.Unauthenticated {
			t.Errorf("%s: unary: %v", name, err)
		}
		s, err := testpb.NewTestServiceClient(conn).FullDuplexCall(ctx)
		if err == nil {
			_, err = s.Recv()
		}
		if status.Code(err) != codes.Unauthenticated {
			t.Errorf("%s: stream: %v", name, err)
		}
	}
	got, err := healthpb.NewHealthClient(conn).Check(good, &healthpb.HealthCheckRequest{Service: "grpc.testing.TestService"})
	if err != nil || got.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("good token: %v %v", got, err)
	}
}

func TestGRPCUnary(t *testing.T) {
	conn, ctx := grpcClient(t)
	c := testpb.NewTestServiceClient(conn)
	var header, trailer metadata.MD
	ctx = metadata.AppendToOutgoingContext(ctx, GRPCInitialKey, "hi", GRPCTrailingKey, "bye")
	got, err := c.UnaryCall(ctx, &testpb.SimpleRequest{Payload: &testpb.Payload{Body: []byte("ping")}}, grpc.Header(&header), grpc.Trailer(&trailer))
	if err != nil || string(got.GetPayload().GetBody()) != "ping" {
		t.Errorf("got %v %v", got, err)
	}
	if !slices.Equal(header.Get(GRPCInitialKey), []string{"hi"}) || !slices.Equal(trailer.Get(GRPCTrailingKey), []string{"bye"}) {
		t.Errorf("header %v, trailer %v", header, trailer)
	}
	if got, err := c.UnaryCall(ctx, &testpb.SimpleRequest{ResponseSize: 100_000}); err != nil || len(got.GetPayload().GetBody()) != 100_000 {
		t.Errorf("large: %d bytes, %v", len(got.GetPayload().GetBody()), err)
	}
	_, err = c.UnaryCall(ctx, &testpb.SimpleRequest{ResponseStatus: &testpb.EchoStatus{Code: int32(codes.DataLoss), Message: "gone"}})
	if s := status.Convert(err); s.Code() != codes.DataLoss || s.Message() != "gone" {
		t.Errorf("status: %v", err)
	}
	if _, err := c.UnaryCall(ctx, &testpb.SimpleRequest{ResponseSize: -1}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("negative size: %v", err)
	}
	if _, err := c.EmptyCall(ctx, &testpb.Empty{}); err != nil {
		t.Errorf("empty: %v", err)
	}
}

func TestGRPCBidirectional(t *testing.T) {
	conn, ctx := grpcClient(t)
	s, err := testpb.NewTestServiceClient(conn).FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one", "two", "three"} { // strictly ping-pong: each must arrive before the next is sent
		if err := s.Send(&testpb.StreamingOutputCallRequest{Payload: &testpb.Payload{Body: []byte(text)}}); err != nil {
			t.Fatal(err)
		}
		got, err := s.Recv()
		if err != nil || string(got.GetPayload().GetBody()) != text {
			t.Fatalf("got %v %v, want %q", got, err, text)
		}
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func TestGRPCOneWayStreams(t *testing.T) {
	conn, ctx := grpcClient(t)
	c := testpb.NewTestServiceClient(conn)
	up, err := c.StreamingInputCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := up.Send(&testpb.StreamingInputCallRequest{Payload: &testpb.Payload{Body: make([]byte, 1000)}}); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := up.CloseAndRecv(); err != nil || got.GetAggregatedPayloadSize() != 3000 {
		t.Errorf("client stream: %v %v", got, err)
	}
	down, err := c.StreamingOutputCall(ctx, &testpb.StreamingOutputCallRequest{ResponseParameters: []*testpb.ResponseParameters{
		{Size: 10}, {Size: 20, IntervalUs: 1000},
	}})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for {
		got, err := down.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n += len(got.GetPayload().GetBody())
	}
	if n != 30 {
		t.Errorf("server stream: %d bytes", n)
	}
}

func TestGRPCReflection(t *testing.T) {
	conn, ctx := grpcClient(t)
	s, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer s.CloseSend()
	if err := s.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, x := range got.GetListServicesResponse().GetService() {
		names = append(names, x.GetName())
	}
	for _, want := range []string{"grpc.health.v1.Health", "grpc.testing.TestService"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not among %v", want, names)
		}
	}
}
