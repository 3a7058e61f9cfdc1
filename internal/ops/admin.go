// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/egret-proxy/egret/audit"
)

// RequestIDHeader is on every answer of the admin socket and names its record.
const RequestIDHeader = "Egret-Request-Id"

// maxAdminBody bounds the body of a call.
const maxAdminBody = 1 << 20

// AdminOptions are what an Admin is made of.
type AdminOptions struct {
	Socket string
	UIDs   []int // who may call besides root and egret's own uid
	// Record is called once for every call, allowed or refused, when it has been
	// answered. It must not block. It cannot veto: a revocation must not wait for a disk.
	Record func(AdminCall)
	Logger *slog.Logger // nil: silent
}

// AdminCall is one call on the admin socket.
type AdminCall struct {
	ID       string
	Time     time.Time // when it came in
	Duration time.Duration
	Peer     Peer
	Method   string
	Path     string // without query
	Pattern  string // of the handler that answered; "" where none did
	Status   int
	Refused  string // code of why it was refused; "" where the peer was allowed
	Note     string // what the handler had to say of it
}

// Reasons in AdminCall.Refused.
const (
	RefusedUID  = "uid_not_allowed"
	RefusedPeer = "peer_unknown" // the kernel did not say who it is
)

// Record makes the audit record of the call.
func (c AdminCall) Record() audit.Record {
	r := audit.Record{
		Schema: audit.Schema, Kind: audit.KindAdmin, Time: c.Time, ID: c.ID, Listener: "admin",
		Method: c.Method, PathTemplate: pathOf(c.Pattern), Status: c.Status, Verdict: "allow", TTotal: c.Duration,
		Detail: fmt.Sprintf("uid=%d pid=%d path=%q", c.Peer.UID, c.Peer.PID, c.Path[:min(len(c.Path), 256)]),
	}
	if c.Note != "" {
		r.Detail += " " + c.Note
	}
	if r.Reason = c.reason(); r.Reason != "" {
		r.Layer = "admin"
	}
	if c.Status/100 == 4 { // what failed with 5xx had been allowed, and may have had effects
		r.Verdict = "deny"
	}
	return r
}

// pathOf is a pattern of http.ServeMux without its method.
func pathOf(pattern string) string {
	if _, path, ok := strings.Cut(pattern, " "); ok {
		return path
	}
	return pattern
}

// reason is why the call did not do what was asked: the code of its refusal, else the name
// of its status ("not_found"); "" where it did.
func (c AdminCall) reason() string {
	if c.Refused != "" || c.Status < http.StatusBadRequest {
		return c.Refused
	}
	return strings.ReplaceAll(strings.ToLower(http.StatusText(c.Status)), " ", "_")
}

// Admin serves calls over a unix socket to peers whose uid is allowed (MUST P5).
type Admin struct {
	o      AdminOptions
	uids   []uint32
	mux    *http.ServeMux
	log    *slog.Logger
	server *Server
}

// NewAdmin makes an Admin without routes.
func NewAdmin(o AdminOptions) (*Admin, error) {
	if o.Record == nil {
		return nil, errors.New("admin: calls have to be recorded, and there is nobody to record them")
	}
	a := &Admin{o: o, uids: []uint32{0, uint32(os.Geteuid())}, mux: http.NewServeMux(), log: orSilent(o.Logger)}
	for i, uid := range o.UIDs {
		if uid < 0 || int64(uid) >= 1<<32-1 {
			return nil, fmt.Errorf("admin: uids[%d] is %d: not a uid", i, uid)
		}
		if uid == overflowUID {
			return nil, fmt.Errorf("admin: uids[%d] is %d, which stands for every user that is not mapped into this user namespace", i, uid)
		}
		a.uids = append(a.uids, uint32(uid))
	}
	a.server = NewServer(a, a.log)
	a.server.http.ConnContext = withPeer
	return a, nil
}

// Handle registers a route, in the patterns of http.ServeMux ("POST /v1/revoke"). Call
// it before Serve.
func (a *Admin) Handle(pattern string, h http.Handler) { a.mux.Handle(pattern, h) }

// Listen makes the socket. Its mode is 0600, or 0666 where UIDs names others, whom the
// file mode would otherwise lock out: who may call is decided by the peer's uid.
func (a *Admin) Listen() (net.Listener, error) {
	if len(a.o.UIDs) > 0 {
		return listenSocket(a.o.Socket, 0o666)
	}
	return listenSocket(a.o.Socket, 0o600)
}

// Serve answers on ln until Shutdown. It refuses a listener that is not a unix socket.
func (a *Admin) Serve(ln net.Listener) error {
	if ln.Addr().Network() != "unix" {
		return errors.Join(fmt.Errorf("admin: %s is %w: its peers could not be checked", ln.Addr(), errNotUnix), ln.Close())
	}
	return a.server.Serve(ln)
}

// Shutdown lets running calls end until ctx does, and removes the socket.
func (a *Admin) Shutdown(ctx context.Context) error { return a.server.Shutdown(ctx) }

type (
	peerKey struct{}
	callKey struct{}
)

// Note adds to the record of the call that a handler is answering what its path does not
// tell. The last one counts.
func Note(ctx context.Context, text string) {
	if c, ok := ctx.Value(callKey{}).(*AdminCall); ok {
		c.Note = text
	}
}

// connPeer is what the kernel said when the connection came in.
type connPeer struct {
	peer Peer
	err  error
}

func withPeer(ctx context.Context, c net.Conn) context.Context {
	p, err := peerOf(c)
	return context.WithValue(ctx, peerKey{}, connPeer{p, err})
}

// PeerFrom returns who makes the call that a handler is answering. Without one it is
// not ok.
func PeerFrom(ctx context.Context) (p Peer, ok bool) {
	c, ok := ctx.Value(peerKey{}).(connPeer)
	return c.peer, ok && c.err == nil
}

// ServeHTTP implements http.Handler.
func (a *Admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &AdminCall{ID: rand.Text(), Time: time.Now(), Method: r.Method, Path: r.URL.Path}
	sw := &statusWriter{ResponseWriter: w}
	defer a.finish(c, sw)
	sw.Header().Set(RequestIDHeader, c.ID)
	sw.Header().Set("Cache-Control", "no-store")
	if c.Peer, c.Refused = a.admit(r.Context()); c.Refused != "" {
		sw.Header().Set("Connection", "close")
		WriteError(sw, http.StatusForbidden, fmt.Sprintf("uid %d may not use the admin socket: add it to admin.uids", c.Peer.UID))
		return
	}
	a.route(sw, r.WithContext(context.WithValue(r.Context(), callKey{}, c)), c)
}

func (a *Admin) admit(ctx context.Context) (p Peer, refused string) {
	p, ok := PeerFrom(ctx)
	switch {
	case !ok:
		return Peer{UID: overflowUID}, RefusedPeer
	case !slices.Contains(a.uids, p.UID):
		return p, RefusedUID
	}
	return p, ""
}

func (a *Admin) route(w http.ResponseWriter, r *http.Request, c *AdminCall) {
	_, c.Pattern = a.mux.Handler(r)
	if c.Pattern == "" {
		status := &statusOnly{header: w.Header()}
		a.mux.ServeHTTP(status, r) // 404, or 405 with Allow
		WriteError(w, status.code, fmt.Sprintf("no admin call %s %q", r.Method, r.URL.Path))
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxAdminBody)
	a.mux.ServeHTTP(w, r)
}

// finish records the call on every way out of ServeHTTP, a panic included.
func (a *Admin) finish(c *AdminCall, w *statusWriter) {
	v := recover() //nolint:revive // finish is what is deferred
	begun := w.status != 0
	if v != nil && !begun {
		WriteError(w, http.StatusInternalServerError, "the call failed inside egret: see its log")
	}
	if w.status == 0 {
		w.status = http.StatusOK // what net/http sends for a handler that writes nothing
	}
	c.Status, c.Duration = w.status, time.Since(c.Time)
	a.log.Info("admin call", "id", c.ID, "uid", c.Peer.UID, "pid", c.Peer.PID, "method", c.Method, "path", c.Path,
		"status", c.Status, "refused", c.Refused)
	a.o.Record(*c)
	if v == nil {
		return
	}
	// The type, not the value: a value may quote what the handler held.
	a.log.Error("admin call panicked", "id", c.ID, "type", fmt.Sprintf("%T", v))
	if begun {
		panic(http.ErrAbortHandler) // the peer must not take half an answer for a whole one
	}
}
