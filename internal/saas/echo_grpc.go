// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package saas

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
)

// maxGRPCPayload bounds the payload that a caller can ask for, in bytes.
const maxGRPCPayload = 8 << 20

// Metadata keys that the twin sends back, as the gRPC interop tests have them.
const (
	GRPCInitialKey  = "x-grpc-test-echo-initial"      // in the response header
	GRPCTrailingKey = "x-grpc-test-echo-trailing-bin" // in the trailer
)

// newEchoGRPC makes the gRPC side of Echo: health, reflection and the calls of
// grpc.testing.TestService that egret's tests use (the others are Unimplemented).
func newEchoGRPC(tokens Tokens) *grpc.Server {
	gate := grpcGate{tokens: tokens}
	s := grpc.NewServer(grpc.UnaryInterceptor(gate.unary), grpc.StreamInterceptor(gate.stream))
	testpb.RegisterTestServiceServer(s, echoService{})
	h := health.NewServer()
	h.SetServingStatus(testpb.TestService_ServiceDesc.ServiceName, healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(s, h)
	reflection.Register(s)
	return s
}

// grpcGate asks for a Bearer token on every call, reflection and health included.
type grpcGate struct{ tokens Tokens }

func (g grpcGate) check(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get("authorization")
	if len(values) == 1 && authorized(g.tokens, values[0]) || g.tokens == nil {
		return nil
	}
	return status.Error(codes.Unauthenticated, "a valid bearer token is required")
}

func (g grpcGate) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := g.check(ctx); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func (g grpcGate) stream(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := g.check(s.Context()); err != nil {
		return err
	}
	return next(srv, s)
}

// echoService implements grpc.testing.TestService.
type echoService struct {
	testpb.UnimplementedTestServiceServer
}

// EmptyCall answers nothing with nothing.
func (echoService) EmptyCall(context.Context, *testpb.Empty) (*testpb.Empty, error) {
	return &testpb.Empty{}, nil
}

// UnaryCall sends the payload back, or ResponseSize bytes of Pattern where that is set,
// or the status that was asked for.
func (echoService) UnaryCall(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	if err := sendMetadata(ctx, grpc.SetHeader, grpc.SetTrailer); err != nil {
		return nil, err
	}
	if want := in.GetResponseStatus(); want.GetCode() != 0 {
		return nil, status.Error(codes.Code(want.GetCode()), want.GetMessage())
	}
	if in.GetResponseSize() == 0 {
		return &testpb.SimpleResponse{Payload: in.GetPayload()}, nil
	}
	p, err := payload(in.GetResponseSize())
	return &testpb.SimpleResponse{Payload: p}, err
}

// StreamingInputCall counts the bytes of a client stream.
func (echoService) StreamingInputCall(s grpc.ClientStreamingServer[testpb.StreamingInputCallRequest, testpb.StreamingInputCallResponse]) error {
	var n int32
	for {
		in, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return s.SendAndClose(&testpb.StreamingInputCallResponse{AggregatedPayloadSize: n})
		}
		if err != nil {
			return err
		}
		n += int32(len(in.GetPayload().GetBody()))
	}
}

// StreamingOutputCall sends the payloads that were asked for.
func (echoService) StreamingOutputCall(in *testpb.StreamingOutputCallRequest, s grpc.ServerStreamingServer[testpb.StreamingOutputCallResponse]) error {
	return sendAll(in, s)
}

// FullDuplexCall answers each message as it comes: with what it asks for, or with its
// own payload where it asks for nothing.
func (echoService) FullDuplexCall(s grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]) error {
	setTrailer := func(_ context.Context, md metadata.MD) error { s.SetTrailer(md); return nil }
	setHeader := func(_ context.Context, md metadata.MD) error { return s.SetHeader(md) }
	if err := sendMetadata(s.Context(), setHeader, setTrailer); err != nil {
		return err
	}
	for {
		in, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := sendAll(in, s); err != nil {
			return err
		}
	}
}

func sendAll(in *testpb.StreamingOutputCallRequest, s interface {
	Send(*testpb.StreamingOutputCallResponse) error
	Context() context.Context
}) error {
	if want := in.GetResponseStatus(); want.GetCode() != 0 {
		return status.Error(codes.Code(want.GetCode()), want.GetMessage())
	}
	if len(in.GetResponseParameters()) == 0 {
		return s.Send(&testpb.StreamingOutputCallResponse{Payload: in.GetPayload()})
	}
	for _, want := range in.GetResponseParameters() {
		if err := sleep(s.Context(), time.Duration(want.GetIntervalUs())*time.Microsecond); err != nil {
			return err
		}
		p, err := payload(want.GetSize())
		if err != nil {
			return err
		}
		if err := s.Send(&testpb.StreamingOutputCallResponse{Payload: p}); err != nil {
			return err
		}
	}
	return nil
}

func payload(size int32) (*testpb.Payload, error) {
	if size < 0 || size > maxGRPCPayload {
		return nil, status.Error(codes.InvalidArgument, "the payload size is out of range")
	}
	body := make([]byte, size)
	_, _ = NewPattern().Read(body)
	return &testpb.Payload{Body: body}, nil
}

// sendMetadata sends the two well-known keys of the interop tests back.
func sendMetadata(ctx context.Context, header, trailer func(context.Context, metadata.MD) error) error {
	md, _ := metadata.FromIncomingContext(ctx)
	for key, set := range map[string]func(context.Context, metadata.MD) error{GRPCInitialKey: header, GRPCTrailingKey: trailer} {
		if values := md.Get(key); len(values) > 0 {
			if err := set(ctx, metadata.MD{key: values}); err != nil {
				return err
			}
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}
