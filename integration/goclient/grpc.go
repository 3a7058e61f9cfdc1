// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
)

// call calls one method of grpc.testing.TestService.
func call(ctx context.Context, args []string) error {
	conn, err := grpc.NewClient(args[0], grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12})))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	var header, trailer metadata.MD
	if strings.HasSuffix(args[1], "DuplexCall") {
		header, trailer, err = talk(ctx, conn, args[1])
	} else {
		in := &testpb.SimpleRequest{Payload: &testpb.Payload{Body: []byte("hello")}}
		err = conn.Invoke(ctx, args[1], in, &testpb.SimpleResponse{}, grpc.Header(&header), grpc.Trailer(&trailer))
	}
	for _, md := range []metadata.MD{header, trailer} {
		for _, value := range md.Get("egret-decision") {
			fmt.Println("decision:", value)
		}
	}
	if err != nil {
		return err
	}
	fmt.Println("status: OK")
	return nil
}

// talk sends three messages, each after the answer to the one before.
func talk(ctx context.Context, conn *grpc.ClientConn, method string) (header, trailer metadata.MD, err error) {
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err != nil {
		return nil, nil, err
	}
	for range 3 {
		in := &testpb.StreamingOutputCallRequest{ResponseParameters: []*testpb.ResponseParameters{{Size: 5}}}
		if err = s.SendMsg(in); err != nil && !errors.Is(err, io.EOF) {
			break
		}
		if err = s.RecvMsg(&testpb.StreamingOutputCallResponse{}); err != nil {
			break
		}
	}
	if err == nil {
		err = s.CloseSend()
	}
	if end := s.RecvMsg(&testpb.StreamingOutputCallResponse{}); err == nil && !errors.Is(end, io.EOF) {
		err = fmt.Errorf("the stream did not end: %w", end)
	}
	header, _ = s.Header()
	return header, s.Trailer(), err
}
