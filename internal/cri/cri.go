// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package cri asks a node's container runtime which pods there are: containerd or CRI-O,
// over the Kubernetes Container Runtime Interface v1. It only reads. The runtime's socket is
// as good as root on the node, so this belongs into egret steer and nowhere else.
package cri

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	api "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Options are what a Client is made of. Both are required.
type Options struct {
	Address string // unix:///run/containerd/containerd.sock, unix:///run/crio/crio.sock
	// Trust is asked about each connection before anything is said on it: who serves the
	// socket names the pods. An error closes it.
	Trust func(*net.UnixConn) error
}

// Client asks one runtime. It connects when it is asked, anew after the runtime has gone.
// Safe for concurrent use.
type Client struct {
	conn *grpc.ClientConn
	api  api.RuntimeServiceClient
}

// Bounds of a call. An answer may be as large as what the kubelet takes.
const (
	callTime   = 10 * time.Second
	maxMessage = 16 << 20
	firstDial  = 50 * time.Millisecond
	lastDial   = time.Second
)

// ErrNotFound: the runtime knows no such sandbox.
var ErrNotFound = errors.New("the runtime knows no such pod sandbox")

// New makes a Client. It does no I/O.
func New(o Options) (*Client, error) {
	path, found := strings.CutPrefix(o.Address, "unix://")
	if !found || !strings.HasPrefix(path, "/") {
		return nil, fmt.Errorf("container runtime %q: must be unix:///path (containerd: unix:///run/containerd/containerd.sock, CRI-O: unix:///run/crio/crio.sock)", o.Address)
	}
	if o.Trust == nil {
		return nil, errors.New("container runtime: whom to trust must be said")
	}
	conn, err := grpc.NewClient("passthrough:///"+path,
		grpc.WithAuthority("localhost"), // a path is none, and some servers refuse it
		grpc.WithContextDialer(func(ctx context.Context, path string) (net.Conn, error) { return dial(ctx, path, o.Trust) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()), // a unix socket, whose peer is asked for
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstDial, Multiplier: 1.6, Jitter: 0.2, MaxDelay: lastDial},
			MinConnectTimeout: callTime,
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("container runtime: %w", err)
	}
	return &Client{conn: conn, api: api.NewRuntimeServiceClient(conn)}, nil
}

func dial(ctx context.Context, path string, trust func(*net.UnixConn) error) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(errors.New("not a unix socket"), c.Close())
	}
	if err := trust(u); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return u, nil
}

// Close ends all calls.
func (c *Client) Close() error { return c.conn.Close() }

// Runtime is what the runtime says of itself.
type Runtime struct {
	Name, Version string
}

// String names it in logs.
func (r Runtime) String() string { return r.Name + " " + r.Version }

// Runtime asks what it is. It fails where it does not speak CRI v1.
func (c *Client) Runtime(ctx context.Context) (Runtime, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	m, err := c.api.Version(ctx, &api.VersionRequest{})
	if err != nil {
		return Runtime{}, told(err)
	}
	return Runtime{Name: m.GetRuntimeName(), Version: m.GetRuntimeVersion()}, nil
}

// Ready lists the pod sandboxes that are ready, by their IDs.
func (c *Client) Ready(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	ready := api.PodSandboxState_SANDBOX_READY
	m, err := c.api.ListPodSandbox(ctx, &api.ListPodSandboxRequest{Filter: &api.PodSandboxFilter{State: &api.PodSandboxStateValue{State: ready}}})
	if err != nil {
		return nil, told(err)
	}
	ids := make([]string, 0, len(m.GetItems()))
	for _, s := range m.GetItems() {
		if s.GetState() == ready && s.GetId() != "" {
			ids = append(ids, s.GetId())
		}
	}
	return ids, nil
}

// Sandbox asks for one. ErrNotFound: there is none.
func (c *Client) Sandbox(ctx context.Context, id string) (Sandbox, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	m, err := c.api.PodSandboxStatus(ctx, &api.PodSandboxStatusRequest{PodSandboxId: id, Verbose: true})
	if err != nil {
		return Sandbox{}, told(err)
	}
	if got := m.GetStatus().GetId(); got != id {
		return Sandbox{}, fmt.Errorf("the runtime was asked for sandbox %q and tells of %q", id, got)
	}
	return sandboxOf(m), nil
}

// told puts a failed call into words.
func told(err error) error {
	switch s := status.Convert(err); s.Code() { //nolint:exhaustive // the others are not told apart
	case codes.NotFound:
		return ErrNotFound
	case codes.Unimplemented:
		return fmt.Errorf("it does not speak CRI v1, or not all of it (%s): it needs containerd 1.6 or CRI-O 1.23", s.Message())
	case codes.ResourceExhausted:
		return fmt.Errorf("it answers with more than %d MiB, or is at its own limit: %s", maxMessage>>20, s.Message())
	default:
		return fmt.Errorf("%s: %s", s.Code(), s.Message())
	}
}
