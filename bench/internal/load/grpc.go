// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"github.com/egret-proxy/egret/bench/internal/echo"
)

// grpcCaller makes calls with grpc-go's own client, over one connection.
type grpcCaller struct {
	d    *door
	conn *grpc.ClientConn
	send *echo.Message
}

func newGRPC(d *door) (*grpcCaller, error) {
	conn, err := grpc.NewClient("passthrough:///"+hostPort(d.url),
		grpc.WithTransportCredentials(credentials.NewTLS(d.tls(nil))),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return d.tunnel(ctx) }),
		grpc.WithNoProxy(), grpc.WithDisableServiceConfig())
	if err != nil {
		return nil, err
	}
	return &grpcCaller{d: d, conn: conn, send: &echo.Message{Value: make([]byte, d.spec.Bytes)}}, nil
}

func (g *grpcCaller) close() { _ = g.conn.Close() }

func (g *grpcCaller) call(ctx context.Context, w *worker) error {
	if t := g.d.spec.Token; t != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+t)
	}
	if g.d.spec.Kind == Stream {
		return g.stream(ctx, w)
	}
	var got echo.Message
	if err := g.conn.Invoke(ctx, echo.Unary, g.send, &got); err != nil {
		return err
	}
	return g.took(w, &got)
}

func (g *grpcCaller) took(w *worker, m *echo.Message) error {
	n := int64(len(m.GetValue()))
	w.bytes.Add(n)
	if n != g.d.spec.Bytes {
		return fmt.Errorf("a message of %d bytes instead of %d", n, g.d.spec.Bytes)
	}
	return nil
}

// stream makes one call and counts each message that comes.
func (g *grpcCaller) stream(ctx context.Context, w *worker) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, echo.TimesHeader, strconv.Itoa(g.d.spec.Times))
	s, err := g.conn.NewStream(ctx, echo.StreamDesc(), echo.Stream)
	if err != nil {
		return err
	}
	if err := s.SendMsg(g.send); err != nil {
		return err
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	for n := 0; ; n++ {
		var got echo.Message
		err := s.RecvMsg(&got)
		switch {
		case errors.Is(err, io.EOF) && n == g.d.spec.Times:
			return nil
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%d messages instead of %d", n, g.d.spec.Times)
		case err != nil:
			return err
		}
		if err := g.took(w, &got); err != nil {
			return err
		}
	}
}
