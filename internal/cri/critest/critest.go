// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package critest is a container runtime as tests need one: it answers like containerd, and
// fails as a real one does not on demand.
package critest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	api "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Runtime is one. Its exported members may be set before Start; later only by Change.
type Runtime struct {
	Name, Release                         string
	Boxes                                 map[string]*Box           // by ID
	Fault                                 func(method string) error // is asked before each call; nil: none
	Events                                chan struct{}             // closed: the stream of events ends; nil: there is none
	Unlisted                              func(id string) bool      // of the boxes that are there, those that are left out of lists
	Meanwhile                             func(method, id string)   // is called while a call is answered, without the lock
	api.UnimplementedRuntimeServiceServer                           // CRI's other calls
	t                                     testing.TB
	socket                                string
	server                                *grpc.Server
	done                                  chan struct{}

	mu    sync.Mutex
	asked []string
}

// Box is a pod sandbox.
type Box struct {
	UID, Namespace, Name string
	Labels               map[string]string // nil: those of a kubelet
	Gone                 bool              // not ready any more
	Host                 bool
	NetNS                string
}

// New makes a containerd 2, with events, that ends with the test. Start it.
func New(t testing.TB) *Runtime {
	t.Helper()
	dir, err := os.MkdirTemp("", "cri") //nolint:usetesting // the test's own may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	r := &Runtime{Name: "containerd", Release: "v2.2.0", Boxes: map[string]*Box{}, Events: make(chan struct{}), t: t, socket: filepath.Join(dir, "s")}
	t.Cleanup(func() {
		r.Stop()
		_ = os.RemoveAll(dir)
	})
	return r
}

// Address is that of its socket.
func (r *Runtime) Address() string { return "unix://" + r.socket }

// Start serves, also anew after Stop.
func (r *Runtime) Start() {
	r.t.Helper()
	l, err := new(net.ListenConfig).Listen(context.Background(), "unix", r.socket)
	if err != nil {
		r.t.Fatal(err)
	}
	server, done := grpc.NewServer(grpc.UnaryInterceptor(r.unary), grpc.StreamInterceptor(r.stream)), make(chan struct{})
	r.server, r.done = server, done
	api.RegisterRuntimeServiceServer(server, r)
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
}

// Stop ends it, and with it every call.
func (r *Runtime) Stop() {
	if r.server != nil {
		r.server.Stop()
		<-r.done
		r.server = nil
	}
}

// Change changes members while it runs.
func (r *Runtime) Change(f func(*Runtime)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(r)
}

// Asked are the calls that there were, each once, by name.
func (r *Runtime) Asked() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Compact(slices.Sorted(slices.Values(r.asked)))
}

// Count is how often a call was made.
func (r *Runtime) Count(method string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.asked {
		if x == method {
			n++
		}
	}
	return n
}

func (r *Runtime) called(full string) error {
	method := path.Base(full)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, method)
	if r.Fault == nil {
		return nil
	}
	return r.Fault(method)
}

func (r *Runtime) unary(ctx context.Context, req any, i *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
	if err := r.called(i.FullMethod); err != nil {
		return nil, err
	}
	m, err := h(ctx, req)
	r.mu.Lock()
	meanwhile := r.Meanwhile
	r.mu.Unlock()
	if meanwhile != nil {
		id := ""
		if x, ok := req.(*api.PodSandboxStatusRequest); ok {
			id = x.GetPodSandboxId()
		}
		meanwhile(path.Base(i.FullMethod), id)
	}
	return m, err
}

func (r *Runtime) stream(srv any, s grpc.ServerStream, i *grpc.StreamServerInfo, h grpc.StreamHandler) error {
	return errors.Join(r.called(i.FullMethod), h(srv, s))
}

// Version implements CRI.
func (r *Runtime) Version(context.Context, *api.VersionRequest) (*api.VersionResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &api.VersionResponse{Version: "0.1.0", RuntimeName: r.Name, RuntimeVersion: r.Release, RuntimeApiVersion: "v1"}, nil
}

// ListPodSandbox implements CRI.
func (r *Runtime) ListPodSandbox(_ context.Context, m *api.ListPodSandboxRequest) (*api.ListPodSandboxResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := &api.ListPodSandboxResponse{}
	for id, b := range r.Boxes {
		if state := m.GetFilter().GetState(); state != nil && state.GetState() != b.state() || r.Unlisted != nil && r.Unlisted(id) {
			continue
		}
		out.Items = append(out.Items, &api.PodSandbox{Id: id, Metadata: b.metadata(), State: b.state(), Labels: b.labels()})
	}
	return out, nil
}

// PodSandboxStatus implements CRI.
func (r *Runtime) PodSandboxStatus(_ context.Context, m *api.PodSandboxStatusRequest) (*api.PodSandboxStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := m.GetPodSandboxId()
	b := r.Boxes[id]
	if b == nil {
		return nil, status.Errorf(codes.NotFound, "an error occurred when try to find sandbox: not found")
	}
	out := &api.PodSandboxStatusResponse{Status: &api.PodSandboxStatus{Id: id, Metadata: b.metadata(), State: b.state(), Labels: b.labels()}}
	network := api.NamespaceMode_POD
	if b.Host {
		network = api.NamespaceMode_NODE
	}
	out.Status.Linux = &api.LinuxPodSandboxStatus{Namespaces: &api.Namespace{Options: &api.NamespaceOption{Network: network}}}
	if m.GetVerbose() {
		out.Info = map[string]string{"info": b.info()}
	}
	return out, nil
}

// GetContainerEvents implements CRI: one event at the beginning, and none after it.
func (r *Runtime) GetContainerEvents(_ *api.GetEventsRequest, s api.RuntimeService_GetContainerEventsServer) error {
	r.mu.Lock()
	events := r.Events
	r.mu.Unlock()
	if events == nil {
		return status.Error(codes.Unimplemented, "unknown method GetContainerEvents")
	}
	if err := s.Send(&api.ContainerEventResponse{}); err != nil {
		return err
	}
	for {
		select {
		case <-s.Context().Done():
			return s.Context().Err()
		case _, ok := <-events:
			if !ok {
				return nil
			}
			if err := s.Send(&api.ContainerEventResponse{ContainerEventType: api.ContainerEventType_CONTAINER_STARTED_EVENT}); err != nil {
				return err
			}
		}
	}
}

func (b *Box) state() api.PodSandboxState {
	if b.Gone {
		return api.PodSandboxState_SANDBOX_NOTREADY
	}
	return api.PodSandboxState_SANDBOX_READY
}

func (b *Box) metadata() *api.PodSandboxMetadata {
	return &api.PodSandboxMetadata{Name: b.Name, Namespace: b.Namespace, Uid: b.UID}
}

func (b *Box) labels() map[string]string {
	if b.Labels != nil {
		return b.Labels
	}
	return map[string]string{"io.kubernetes.pod.name": b.Name, "io.kubernetes.pod.namespace": b.Namespace, "io.kubernetes.pod.uid": b.UID}
}

func (b *Box) info() string {
	network := fmt.Sprintf(`,{"type":"network","path":%q}`, b.NetNS)
	if b.Host {
		network = ""
	}
	return fmt.Sprintf(`{"pid":4711,"processStatus":"running","netNamespaceClosed":false,"runtimeSpec":{"ociVersion":"1.0.2","linux":{"namespaces":[{"type":"pid"},{"type":"mount"}%s]}}}`, network)
}
