// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package steering

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/egret-proxy/egret/internal/ops"
	"github.com/egret-proxy/egret/internal/redirect"
	"github.com/egret-proxy/egret/internal/steer"
)

// Options are the flags of egret steer.
type Options struct {
	Socket     string // where egret run is given sockets
	Control    string // where the CNI plugin and egret steer list ask; root only
	State      string // folder in which pods are kept that the CNI plugin or the container runtime has told of
	Namespaces string // folder of mounted namespaces; empty: none
	CRI        string // address of the container runtime; empty: none. Not together with Namespaces
	UID        int    // of egret run
	Port       uint16
	Max        int
	Backend    redirect.Backend
	Redirect   redirect.Options // what is captured
	Log        *slog.Logger
}

// Steering is egret steer, made ready.
type Steering struct {
	o        Options
	m        *steer.Steersman
	listener *net.UnixListener
	admin    *ops.Admin
	control  net.Listener
	state    *state
	runtime  *runtimePods
}

// New makes both sockets.
func New(o Options) (_ *Steering, err error) {
	o.Redirect.Port = o.Port
	r, err := newRules(o.Backend, o.Redirect)
	if err != nil {
		return nil, err
	}
	s := &Steering{o: o}
	if s.m, err = steer.New(steer.Options{Rules: r, Port: o.Port, UID: uint32(o.UID), Max: o.Max, Log: o.Log}); err != nil {
		return nil, err
	}
	if err := s.buildRuntime(); err != nil {
		return nil, err
	}
	if s.listener, err = listenPackets(o.Socket); err != nil {
		return nil, err
	}
	if err := s.buildControl(); err != nil {
		return nil, errors.Join(err, s.listener.Close())
	}
	return s, nil
}

// buildRuntime makes what keeps pods, and what asks the container runtime for them.
func (s *Steering) buildRuntime() (err error) {
	if s.o.Control == "" && s.o.CRI == "" {
		return nil
	}
	if s.state, err = newState(s.o.State, s.o.Log); err != nil || s.o.CRI == "" {
		return err
	}
	s.runtime, err = newRuntimePods(s.o.CRI, s.m, s.state, s.o.Log)
	return err
}

// listenPackets makes the socket. Who may connect is decided by the peer's uid: to give
// the file to that user would need CAP_CHOWN.
func listenPackets(path string) (*net.UnixListener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // egret run, another user, looks for its socket there
		return nil, fmt.Errorf("socket %q: %w", path, err)
	}
	if c, err := net.DialTimeout("unixpacket", path, time.Second); err == nil { //nolint:forbidigo // a unix socket
		return nil, errors.Join(fmt.Errorf("socket %q is in use: another egret steer serves it", path), c.Close())
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("socket %q: %w", path, err)
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := os.Chmod(path, 0o666); err != nil { //nolint:gosec // the peer's uid is asked
		return nil, errors.Join(fmt.Errorf("socket %q: %w", path, err), l.Close())
	}
	return l, nil
}

func (s *Steering) buildControl() (err error) {
	if s.o.Control == "" {
		return nil
	}
	s.admin, err = ops.NewAdmin(ops.AdminOptions{Socket: s.o.Control, Logger: s.o.Log, Record: func(ops.AdminCall) {}}) // its calls are logged
	if err != nil {
		return err
	}
	s.admin.Handle("GET /v1/pods", http.HandlerFunc(s.handleList))
	s.admin.Handle("GET /v1/sources", http.HandlerFunc(s.handleSources))
	s.admin.Handle("POST /v1/pods", http.HandlerFunc(s.handleAdd))
	s.admin.Handle("DELETE /v1/pods/{key}", http.HandlerFunc(s.handleRemove))
	s.control, err = s.admin.Listen()
	return err
}

// Run steers until ctx ends, and leaves what is steered as it is: captured.
func (s *Steering) Run(ctx context.Context) error {
	defer s.m.Close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.m.Serve(ctx, s.listener) })
	if s.state != nil {
		s.state.restore(ctx, s.m)
	}
	switch {
	case s.o.Namespaces != "":
		f := &folder{path: s.o.Namespaces, m: s.m, log: s.o.Log, have: map[string]*seen{}}
		g.Go(func() error { return f.run(ctx, s.m.Settled) })
	case s.runtime != nil:
		g.Go(func() error { return s.runtime.run(ctx, s.m.Settled) })
	default:
		s.m.Settled()
	}
	if s.admin != nil {
		g.Go(func() error { return s.admin.Serve(s.control) })
		g.Go(func() error {
			<-ctx.Done()
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			return s.admin.Shutdown(last)
		})
	}
	return g.Wait()
}

func (s *Steering) handleList(w http.ResponseWriter, _ *http.Request) {
	out := []Pod{}
	for _, x := range s.m.Status() {
		out = append(out, Pod{Key: x.Key, NetNS: x.NetNS, UID: x.UID, Namespace: x.Namespace, Name: x.Name, State: x.State, Error: x.Error})
	}
	if s.runtime != nil {
		out = s.runtime.refused(out)
	}
	ops.WriteJSON(w, out)
}

func (s *Steering) handleSources(w http.ResponseWriter, _ *http.Request) {
	out := []Source{}
	if s.runtime != nil {
		out = append(out, s.runtime.source())
	}
	ops.WriteJSON(w, out)
}

// servedWithin is how long a pod's start waits for egret run.
const servedWithin = 5 * time.Second

// handleAdd answers when egret run serves the pod, so that no container starts before.
func (s *Steering) handleAdd(w http.ResponseWriter, r *http.Request) {
	var ask AddRequest
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&ask); err != nil {
		ops.WriteError(w, http.StatusBadRequest, "the body is not a pod: "+err.Error())
		return
	}
	if s.runtime != nil {
		s.runtime.comes(ask.Key)
	}
	err := s.state.keep(ask) // first: what is captured must be found again
	if err == nil {
		err = ask.add(r.Context(), s.m)
	}
	if err == nil {
		ctx, cancel := context.WithTimeout(r.Context(), servedWithin)
		defer cancel()
		err = s.m.Served(ctx, ask.Key)
	}
	if err != nil {
		ops.WriteError(w, http.StatusConflict, err.Error())
		return
	}
	ops.WriteJSON(w, struct{}{})
}

func (s *Steering) handleRemove(w http.ResponseWriter, r *http.Request) {
	if s.runtime != nil {
		s.runtime.over(r.PathValue("key"))
	}
	s.m.Remove(r.Context(), r.PathValue("key"))
	s.state.forget(r.PathValue("key"))
	ops.WriteJSON(w, struct{}{})
}
