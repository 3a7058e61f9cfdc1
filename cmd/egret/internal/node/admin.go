// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/internal/ops"
	"github.com/egret-proxy/egret/internal/secret"
	"github.com/egret-proxy/egret/policy"
	"github.com/egret-proxy/egret/proxy"
)

// Status is what GET /v1/status tells.
type Status struct {
	Version   ops.Version `json:"version"`
	Node      string      `json:"node"`
	Uptime    string      `json:"uptime"`
	Identity  string      `json:"identity,omitempty"`
	Policy    string      `json:"policy"`
	Fault     string      `json:"fault,omitempty"` // why an older policy is in force
	CAExpires time.Time   `json:"caExpires"`
}

// Reloaded is what POST /v1/reload tells.
type Reloaded struct {
	Policy string   `json:"policy"`
	Cut    int      `json:"cut"`
	Took   string   `json:"took"`
	Faults []string `json:"faults,omitempty"`
}

// WalkRequest asks POST /v1/walk for a live walk.
type WalkRequest struct {
	ID     string `json:"id"` // SPIFFE ID; empty: the one whose SVID egret holds
	Method string `json:"method"`
	Target string `json:"target"` // host:port
	Path   string `json:"path"`
	Query  string `json:"query,omitempty"`
	// Operations are what the request does, where its body tells.
	Operations []string `json:"operations,omitempty"`
}

// buildAdmin makes the admin socket's routes, where it is configured.
func (n *Node) buildAdmin() error {
	if n.cfg.Admin.Socket == "" {
		return nil
	}
	a, err := ops.NewAdmin(ops.AdminOptions{Socket: n.cfg.Admin.Socket, UIDs: n.cfg.Admin.UIDs, Logger: n.log, Record: n.recordCall})
	if err != nil {
		return err
	}
	a.Handle("GET /v1/status", http.HandlerFunc(n.handleStatus))
	a.Handle("POST /v1/reload", http.HandlerFunc(n.handleReload))
	a.Handle("POST /v1/walk", http.HandlerFunc(n.handleWalk))
	a.Handle("GET /v1/credentials", http.HandlerFunc(n.handleCredentials))
	a.Handle("GET /v1/revocations", http.HandlerFunc(n.handleRevocations))
	a.Handle("POST /v1/revocations", http.HandlerFunc(n.handleRevoke))
	a.Handle("DELETE /v1/revocations/{number}", http.HandlerFunc(n.handleLift))
	if n.adminAt, err = a.Listen(); err != nil {
		return err
	}
	n.admin = a
	n.onClose(func() { _ = n.adminAt.Close() })
	return nil
}

// recordCall writes the record of a call. Where there is no place for it the log keeps
// it: a revocation must not wait for a disk, and must not go unseen either.
func (n *Node) recordCall(c ops.AdminCall) {
	slot, err := n.journal.Begin()
	if err != nil {
		n.log.Error("a call on the admin socket could not be recorded", "error", err, "id", c.ID, "time", c.Time,
			"uid", c.Peer.UID, "pid", c.Peer.PID, "method", c.Method, "path", c.Path, "status", c.Status, "refused", c.Refused)
		return
	}
	slot.Write(c.Record())
}

func (n *Node) handleStatus(w http.ResponseWriter, _ *http.Request) {
	s := Status{
		Version: n.opt.Version, Node: n.cfg.Node, Uptime: time.Since(n.start).Round(time.Second).String(),
		Policy: n.reload.now().bundle.Digest, CAExpires: n.issuer.Expires().UTC(),
	}
	if svid, err := n.source.SVID(); err == nil {
		s.Identity = svid.ID.String()
	}
	if err := n.reload.health(); err != nil {
		s.Fault = err.Error()
	}
	ops.WriteJSON(w, s)
}

func (n *Node) handleReload(w http.ResponseWriter, _ *http.Request) {
	begin := time.Now()
	cut, err := n.Reload()
	out := Reloaded{Policy: n.reload.now().bundle.Digest, Cut: cut, Took: time.Since(begin).Round(time.Microsecond).String()}
	if err != nil {
		out.Faults = strings.Split(err.Error(), "\n") // one line each, config.Faults included
	}
	ops.WriteJSON(w, out)
}

func (n *Node) handleWalk(w http.ResponseWriter, r *http.Request) {
	var ask WalkRequest
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&ask); err != nil {
		ops.WriteError(w, http.StatusBadRequest, "the body is not a walk request: "+err.Error())
		return
	}
	t, err := policy.ParseTarget(ask.Target)
	if err != nil {
		ops.WriteError(w, http.StatusBadRequest, err.Error())
		return
	}
	caller, err := n.callerFor(r, ask.ID)
	if err != nil {
		ops.WriteError(w, http.StatusConflict, err.Error())
		return
	}
	ops.WriteJSON(w, n.Walk(r, caller, policy.Request{
		Target: t, Method: ask.Method, Path: ask.Path, At: time.Now(), Operations: ask.Operations, Read: len(ask.Operations) > 0,
	}, ask.Query))
}

// Walk asks the data path.
func (n *Node) Walk(r *http.Request, caller identity.Caller, ask policy.Request, query string) proxy.Walk {
	return n.server.Probe(r.Context(), caller, ask, query)
}

// nobody is a caller whose identity could not be had.
type nobody struct{ err error }

// Workload implements identity.Caller.
func (c nobody) Workload() (identity.Workload, error) { return identity.Workload{}, c.err }

// JWTSVID implements identity.Caller.
func (c nobody) JWTSVID(context.Context, string) (secret.Secret, time.Time, error) {
	return secret.Secret{}, time.Time{}, c.err
}

// X509SVID implements identity.Caller.
func (c nobody) X509SVID(context.Context) (tls.Certificate, error) { return tls.Certificate{}, c.err }

// callerFor finds the caller that a walk is made for. egret can only act for the
// workload whose SVID it holds: to act for another would be to invent its evidence.
func (n *Node) callerFor(r *http.Request, id string) (identity.Caller, error) {
	c, err := identity.NewSidecar(n.source, identity.SidecarOptions{}).Resolve(r.Context(), identity.Peer{})
	if err != nil {
		return nobody{err}, nil //nolint:nilerr // the walk's first stage says why
	}
	if id == "" {
		return c, nil
	}
	want, err := spiffeid.FromString(id)
	if err != nil {
		return nil, err
	}
	w, err := c.Workload()
	if err != nil {
		return nil, err
	}
	if w.ID != want {
		return nil, fmt.Errorf("this egret holds the SVID of %s only, so it cannot walk as %s: leave out --live to see what policy would decide", w.ID, want)
	}
	return c, nil
}
