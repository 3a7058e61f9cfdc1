// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/internal/levenshtein"
	"github.com/egret-proxy/egret/internal/ops"
	"github.com/egret-proxy/egret/policy"
)

// RevokeRequest asks POST /v1/revocations.
type RevokeRequest struct {
	ID         string `json:"id,omitempty"`
	Workload   string `json:"workload,omitempty"`
	Credential string `json:"credential,omitempty"`
	Policy     string `json:"policy,omitempty"`
	Reason     string `json:"reason,omitempty"`
	Once       bool   `json:"once,omitempty"` // only drop and end what there is; new values may be got at once
}

// Revoked is what POST /v1/revocations tells.
type Revoked struct {
	Revocation Revocation `json:"revocation"`
	Once       bool       `json:"once,omitempty"`
	Until      string     `json:"until"`   // how long it holds
	Dropped    int        `json:"dropped"` // values out of the cache
	Ended      int        `json:"ended"`   // of them, ended at their issuer
	Failed     int        `json:"failed"`  // of them, which the issuer did not end
	Lasting    int        `json:"lasting"` // of them, whose issuer has no such call
	Cut        int        `json:"cut"`     // requests, streams and tunnels
	Denied     string     `json:"denied"`  // after which time nothing more got through
	Took       string     `json:"took"`    // in all, the issuers' answers included
	Warning    string     `json:"warning,omitempty"`
}

// errUnknownSubject: to revoke what does not exist is a mistake in the name.
var errUnknownSubject = errors.New("nothing of that name is in force")

// Revoke takes away, at once, what r names: policy denies it, what runs is cut, and its
// values are dropped and then ended at their issuers.
func (n *Node) Revoke(ctx context.Context, r Revocation, once bool) (Revoked, error) {
	if err := r.check(); err != nil {
		return Revoked{}, err
	}
	if err := n.knows(r); err != nil {
		return Revoked{}, err
	}
	begin := time.Now()
	out := Revoked{Revocation: r, Once: once, Until: "new values may be got at once"}
	if !once {
		if err := n.hold(&out); err != nil {
			return Revoked{}, err
		}
	}
	out.Cut = n.server.Recheck()
	out.Denied = time.Since(begin).Round(time.Microsecond).String()
	if !once {
		n.keep(&out)
	}
	if id := r.of().ID; !id.IsZero() && out.Warning == "" && n.policy.Load().Workload(id) == nil {
		out.Warning = "no Workload in force has this SPIFFE ID: compare it with that of the records"
	}
	ended := n.cache.Revoke(ctx, keysOf(r.of(), n.policy.Load()))
	out.Dropped, out.Ended, out.Failed, out.Lasting = ended.Dropped, ended.Revoked, ended.Failed, ended.Lasting
	out.Took = time.Since(begin).Round(time.Microsecond).String()
	return out, nil
}

// hold makes policy deny what out names until it is lifted.
func (n *Node) hold(out *Revoked) (err error) {
	if out.Revocation, err = n.revoked.add(out.Revocation); err != nil {
		return err
	}
	n.enforce()
	return nil
}

// keep writes down what is held, and says how long it holds.
func (n *Node) keep(out *Revoked) {
	err := n.revoked.save()
	switch {
	case err != nil:
		out.Until, out.Warning = "until it is lifted or egret restarts", "it could not be written down: "+err.Error()
	case n.revoked.file == "":
		out.Until = "until it is lifted or egret restarts: set admin.revocations to keep it"
	default:
		out.Until = "until it is lifted"
	}
}

// publish puts a policy in force, under the revocations of now.
func (n *Node) publish(p *policy.Policy) {
	n.enforcing.Lock()
	defer n.enforcing.Unlock()
	n.policy.Store(p.Revoke(n.revoked.policies()))
}

// enforce puts the revocations of now in force.
func (n *Node) enforce() {
	n.enforcing.Lock()
	defer n.enforcing.Unlock()
	n.policy.Store(n.policy.Load().Revoke(n.revoked.policies()))
}

// knows is an error where the policy in force has not what a revocation names. A SPIFFE ID
// needs no Workload: it may be about to get one.
func (n *Node) knows(r Revocation) error {
	if r.ID != "" {
		return nil
	}
	name, known := cmp.Or(r.Workload, r.Credential, r.Policy), n.names(r)
	if slices.Contains(known, name) {
		return nil
	}
	if near := nearest(name, known); near != "" {
		return fmt.Errorf("%w: %s; did you mean %s?", errUnknownSubject, r.Subject(), near)
	}
	return fmt.Errorf("%w: %s", errUnknownSubject, r.Subject())
}

// names are those of the kind that r names.
func (n *Node) names(r Revocation) (names []string) {
	p := n.policy.Load()
	if r.Workload != "" {
		for _, b := range p.Bindings() {
			names = append(names, b.Workload.Name)
		}
		return names
	}
	for _, rule := range p.Rules() {
		switch {
		case r.Policy != "":
			names = append(names, rule.Policy)
		case rule.Credential != nil:
			names = append(names, rule.Credential.Name)
		}
	}
	return names
}

// nearest is what may have been meant: a name that differs in up to a third of its letters,
// else one that name is a part of. Empty: none.
func nearest(name string, known []string) string {
	if len(name) > maxNear {
		return ""
	}
	best, bound := "", max(1, len(name)/3)+1
	for _, k := range known {
		if d := levenshtein.Distance(name, k); d < bound {
			best, bound = k, d
		}
	}
	if i := slices.IndexFunc(known, func(k string) bool { return strings.Contains(k, name) }); best == "" && i >= 0 {
		best = known[i]
	}
	return best
}

// maxNear bounds the names for which a neighbour is looked for: the distance costs the
// product of the lengths.
const maxNear = 64

func (n *Node) handleRevoke(w http.ResponseWriter, r *http.Request) {
	var ask RevokeRequest
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&ask); err != nil {
		ops.WriteError(w, http.StatusBadRequest, "the body is not a revocation: "+err.Error())
		return
	}
	peer, _ := ops.PeerFrom(r.Context())
	x := Revocation{ID: ask.ID, Workload: ask.Workload, Credential: ask.Credential, Policy: ask.Policy, Reason: ask.Reason, At: time.Now().UTC(), UID: peer.UID}
	// A client that leaves does not stop a revocation.
	out, err := n.Revoke(context.WithoutCancel(r.Context()), x, ask.Once)
	if err != nil {
		ops.WriteError(w, statusOf(err), err.Error())
		return
	}
	ops.Note(r.Context(), fmt.Sprintf("revoked %s number=%d dropped=%d ended=%d cut=%d reason=%q", x.Subject(), out.Revocation.Number, out.Dropped, out.Ended, out.Cut, x.Reason))
	n.log.Warn("revoked by hand", "what", x.Subject(), "number", out.Revocation.Number, "uid", x.UID, "reason", x.Reason,
		"dropped", out.Dropped, "ended", out.Ended, "failed", out.Failed, "cut", out.Cut, "took", out.Took)
	ops.WriteJSON(w, out)
}

func statusOf(err error) int {
	switch {
	case errors.Is(err, errUnknownSubject), errors.Is(err, errNoRevocation):
		return http.StatusNotFound
	case errors.Is(err, errManyRevocations):
		return http.StatusConflict
	}
	return http.StatusBadRequest
}

func (n *Node) handleRevocations(w http.ResponseWriter, _ *http.Request) {
	list := n.revoked.all()
	if list == nil {
		list = []Revocation{}
	}
	ops.WriteJSON(w, list)
}

func (n *Node) handleLift(w http.ResponseWriter, r *http.Request) {
	number, err := strconv.Atoi(r.PathValue("number"))
	if err != nil {
		ops.WriteError(w, http.StatusBadRequest, "a revocation is named by its number")
		return
	}
	x, err := n.revoked.lift(number)
	if err != nil {
		ops.WriteError(w, statusOf(err), err.Error())
		return
	}
	n.enforce()
	ops.Note(r.Context(), fmt.Sprintf("lifted %s number=%d", x.Subject(), number))
	n.log.Warn("a revocation was lifted by hand", "what", x.Subject(), "number", number)
	ops.WriteJSON(w, x)
}

// CredentialState is one line of GET /v1/credentials. It never holds a value.
type CredentialState struct {
	Credential  string    `json:"credential"`
	Workload    string    `json:"workload"` // SPIFFE ID; empty: shared
	Kind        string    `json:"kind"`     // of its provider
	State       string    `json:"state"`
	Fingerprint string    `json:"fingerprint,omitempty"`
	Age         string    `json:"age,omitempty"`
	Remaining   string    `json:"remaining,omitempty"`
	Fetching    bool      `json:"fetching,omitempty"`
	LastError   string    `json:"lastError,omitempty"`
	LastUsed    time.Time `json:"lastUsed"`
}

func (n *Node) handleCredentials(w http.ResponseWriter, _ *http.Request) {
	kinds := map[string]string{}
	for _, c := range n.reload.now().bundle.Compiled.Credentials {
		kinds[c.Name] = c.Provider.Kind()
	}
	out := []CredentialState{}
	for _, e := range n.Credentials() {
		out = append(out, stateOf(e, kinds[e.Provider]))
	}
	ops.WriteJSON(w, out)
}

func stateOf(e credential.Entry, kind string) CredentialState {
	s := CredentialState{
		Credential: e.Provider, Kind: kind, State: e.State, Fingerprint: e.Fingerprint, Fetching: e.Fetching,
		LastError: e.LastError, LastUsed: e.LastUsed.UTC(),
	}
	if !e.Key.ID.IsZero() {
		s.Workload = e.Key.ID.String()
	}
	if e.Fingerprint != "" {
		s.Age, s.Remaining = e.Age.Round(time.Second).String(), e.Remaining.Round(time.Second).String()
	}
	return s
}
