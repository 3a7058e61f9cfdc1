// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package origin

import (
	"context"
	"crypto/tls"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/egret-proxy/egret/bench/internal/echo"
)

// maxTimes bounds what one call can ask for.
const maxTimes = 1 << 20

// GRPCServer returns grpc-go's own server, over TLS 1.3.
func (o *Origin) GRPCServer(cert tls.Certificate) *grpc.Server {
	s := grpc.NewServer(grpc.MaxConcurrentStreams(250), grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"},
	})))
	echo.Register(s, echoServer{o})
	return s
}

// echoServer implements echo.Server.
type echoServer struct{ o *Origin }

func (e echoServer) admit(ctx context.Context) (metadata.MD, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if !e.o.allowed(md.Get("authorization")) {
		return nil, status.Error(codes.Unauthenticated, "no credential")
	}
	return md, nil
}

// Unary answers with what it got.
func (e echoServer) Unary(ctx context.Context, m *echo.Message) (*echo.Message, error) {
	if _, err := e.admit(ctx); err != nil {
		return nil, err
	}
	e.o.answered.Add(1)
	return m, nil
}

// Stream answers with what it got, as often as echo.TimesHeader says.
func (e echoServer) Stream(m *echo.Message, s grpc.ServerStream) error {
	md, err := e.admit(s.Context())
	if err != nil {
		return err
	}
	asked := md.Get(echo.TimesHeader)
	if len(asked) != 1 {
		return status.Error(codes.InvalidArgument, echo.TimesHeader+" is missing")
	}
	times, err := strconv.Atoi(asked[0])
	if err != nil || times < 1 || times > maxTimes {
		return status.Error(codes.InvalidArgument, echo.TimesHeader+" is no number of messages")
	}
	e.o.answered.Add(1)
	for range times {
		if err := s.SendMsg(m); err != nil {
			return err
		}
	}
	return nil
}
