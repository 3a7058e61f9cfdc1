// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package echo describes the gRPC service of the benchmark, for the origin that serves it
// and the load that calls it. Written by hand: it is two methods of one message type.
package echo

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Full names of the methods, which are the paths of their requests.
const (
	Unary  = "/bench.Echo/Unary"
	Stream = "/bench.Echo/Stream"
)

// TimesHeader is how often Stream sends its message back.
const TimesHeader = "times"

// Message is what both methods take and give.
type Message = wrapperspb.BytesValue

// Server is what serves the two methods.
type Server interface {
	Unary(ctx context.Context, m *Message) (*Message, error)
	Stream(m *Message, s grpc.ServerStream) error
}

// StreamDesc describes Stream to a client.
func StreamDesc() *grpc.StreamDesc {
	return &grpc.StreamDesc{StreamName: "Stream", ServerStreams: true}
}

// Register adds the service to a server.
func Register(r grpc.ServiceRegistrar, s Server) {
	r.RegisterService(&grpc.ServiceDesc{
		ServiceName: "bench.Echo",
		HandlerType: (*Server)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Unary", Handler: unary}},
		Streams:     []grpc.StreamDesc{{StreamName: "Stream", ServerStreams: true, Handler: stream}},
	}, s)
}

// unary has the signature of generated handlers.
//
//nolint:revive // the order of the arguments is grpc's
func unary(srv any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
	m := new(Message)
	if err := decode(m); err != nil {
		return nil, err
	}
	call := func(ctx context.Context, m any) (any, error) {
		return srv.(Server).Unary(ctx, m.(*Message)) //nolint:forcetypeassert // grpc checked it in RegisterService
	}
	if intercept == nil {
		return call(ctx, m)
	}
	return intercept(ctx, m, &grpc.UnaryServerInfo{Server: srv, FullMethod: Unary}, call)
}

func stream(srv any, s grpc.ServerStream) error {
	m := new(Message)
	if err := s.RecvMsg(m); err != nil {
		return err
	}
	return srv.(Server).Stream(m, s) //nolint:forcetypeassert // grpc checked it in RegisterService
}
