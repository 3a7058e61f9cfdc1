// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/internal/durable"
	"github.com/egret-proxy/egret/policy"
)

// Revocation is one that somebody has made by hand, ahead of the policy documents.
// Exactly one of ID, Workload, Credential and Policy is set.
type Revocation struct {
	Number     int       `json:"number"`
	ID         string    `json:"id,omitempty"` // SPIFFE ID
	Workload   string    `json:"workload,omitempty"`
	Credential string    `json:"credential,omitempty"`
	Policy     string    `json:"policy,omitempty"`
	Reason     string    `json:"reason,omitempty"`
	At         time.Time `json:"at"`
	UID        uint32    `json:"uid"` // of who has made it
}

// Subject is what is revoked, in words.
func (r Revocation) Subject() string {
	switch {
	case r.ID != "":
		return "caller " + r.ID
	case r.Workload != "":
		return "workload " + r.Workload
	case r.Credential != "":
		return "credential " + r.Credential
	}
	return "policy " + r.Policy
}

// label is how records name it.
func (r Revocation) label() string {
	text := fmt.Sprintf("revocation %d of %s", r.Number, r.Subject())
	if r.Reason != "" {
		text += ": " + r.Reason
	}
	return text
}

const (
	maxRevocations  = 10_000
	maxRevokeReason = 256
)

// check reports what is wrong with one that was asked for.
func (r Revocation) check() error {
	set := 0
	for _, s := range []string{r.ID, r.Workload, r.Credential, r.Policy} {
		if s != "" {
			set++
		}
	}
	switch {
	case set != 1:
		return errors.New("a revocation must name exactly one of id, workload, credential and policy")
	case len(r.Reason) > maxRevokeReason:
		return fmt.Errorf("the reason must have at most %d bytes", maxRevokeReason)
	}
	if r.ID != "" {
		if _, err := spiffeid.FromString(r.ID); err != nil {
			return fmt.Errorf("id %q is no SPIFFE ID: %w; it looks like spiffe://acme.example/ns/qa/sa/dashboard", r.ID, err)
		}
	}
	return nil
}

// of is the form that policy takes. check has passed.
func (r Revocation) of() policy.Revocation {
	id, _ := spiffeid.FromString(r.ID)
	return policy.Revocation{ID: id, Workload: r.Workload, Credential: r.Credential, Policy: r.Policy, Label: r.label()}
}

// revocations are those in force. They outlive a reload, and a restart where they have a
// file.
type revocations struct {
	file string // empty: none

	mu   sync.Mutex
	list []Revocation
	next int
}

// revocationFile is what stands in the file.
type revocationFile struct {
	Revocations []Revocation `json:"revocations"`
	Next        int          `json:"next"`
}

// loadRevocations reads the file, and makes it where it is not there.
func loadRevocations(file string) (*revocations, error) {
	r := &revocations{file: file, next: 1}
	if file == "" {
		return r, nil
	}
	err := r.read()
	if errors.Is(err, fs.ErrNotExist) {
		return r, r.write(r.list) // a folder that cannot be written to is found at start
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// readRevocations takes what the file of another egret says, and never writes to it.
func readRevocations(file string) (*revocations, error) {
	r := &revocations{file: file, next: 1}
	if file == "" {
		return r, nil
	}
	if err := r.read(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	r.file = ""
	return r, nil
}

// ReadRevocations returns what was revoked by hand and written to a file
// (admin.revocations; empty: none), in policy's form. The file may be that of an egret
// that runs; one that is not there holds none. It is not written to.
func ReadRevocations(file string) ([]policy.Revocation, error) {
	r, err := readRevocations(file)
	if err != nil {
		return nil, err
	}
	return r.policies(), nil
}

// read takes what is in the file. One that is there and cannot be understood is an
// error: to go on would grant again what was revoked (MUST P3).
func (r *revocations) read() error {
	data, err := os.ReadFile(r.file)
	if err != nil {
		return fmt.Errorf("admin.revocations: %w", err)
	}
	var in revocationFile
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("admin.revocations: %q does not hold what egret writes there: %w (restore it; without it, what was revoked would be granted again)", r.file, err)
	}
	for _, x := range in.Revocations {
		if err := x.check(); err != nil {
			return fmt.Errorf("admin.revocations: %q: number %d: %w", r.file, x.Number, err)
		}
		r.next = max(r.next, x.Number+1)
	}
	r.list, r.next = in.Revocations, max(r.next, in.Next)
	return nil
}

// all returns those in force, oldest first.
func (r *revocations) all() []Revocation {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}

func (r *revocations) policies() []policy.Revocation {
	var out []policy.Revocation
	for _, x := range r.all() {
		out = append(out, x.of())
	}
	return out
}

// add puts one on the list. It is not written down yet: what is revoked must not wait for
// a disk.
func (r *revocations) add(x Revocation) (Revocation, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.list) >= maxRevocations {
		return Revocation{}, fmt.Errorf("%w: %d", errManyRevocations, maxRevocations)
	}
	x.Number = r.next
	r.next++
	r.list = append(r.list, x)
	return x, nil
}

// save writes the list down.
func (r *revocations) save() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.write(r.list)
}

var (
	errManyRevocations = errors.New("there are too many revocations: lift those that policy has caught up with")
	errNoRevocation    = errors.New("there is no revocation of that number: egret revoke --list shows them")
)

// lift takes one away, once the file says so: after a restart it must not be back, nor
// gone where it was not lifted.
func (r *revocations) lift(number int) (Revocation, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.list, func(x Revocation) bool { return x.Number == number })
	if i < 0 {
		return Revocation{}, errNoRevocation
	}
	rest := slices.Delete(slices.Clone(r.list), i, i+1)
	if err := r.write(rest); err != nil {
		return Revocation{}, err
	}
	x := r.list[i]
	r.list = rest
	return x, nil
}

// write replaces the file, atomically and durably. The caller holds r.mu.
func (r *revocations) write(list []Revocation) error {
	if r.file == "" {
		return nil
	}
	data, err := json.MarshalIndent(revocationFile{Revocations: list, Next: r.next}, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.Replace(r.file, append(data, '\n')); err != nil {
		return fmt.Errorf("admin.revocations: %w", err)
	}
	return nil
}

// keysOf returns which cached values a revocation takes, by the policy in force.
func keysOf(r policy.Revocation, p *policy.Policy) func(credential.Key) bool {
	if r.Policy == "" {
		return func(k credential.Key) bool {
			switch {
			case r.Credential != "":
				return k.Provider == r.Credential
			case !r.ID.IsZero():
				return k.ID == r.ID
			}
			w := p.Workload(k.ID)
			return w != nil && w.Name == r.Workload
		}
	}
	taken := map[pairOf]bool{}
	for _, rule := range p.Rules() {
		if rule.Policy == r.Policy && rule.Credential != nil {
			taken[pairOf{rule.Credential.Name, rule.Workload}] = true
		}
	}
	return func(k credential.Key) bool { return taken[pairOf{k.Provider, p.Workload(k.ID)}] }
}

// pairOf is a credential in the hands of a workload. A value that all share is not taken
// by the revocation of one policy.
type pairOf struct {
	credential string
	workload   *policy.Workload
}

// buildRevocations reads what was revoked before the last restart.
func (n *Node) buildRevocations() (err error) {
	load := loadRevocations
	if n.opt.Guest {
		load = readRevocations
	}
	if n.revoked, err = load(n.cfg.Admin.Revocations); err != nil {
		return err
	}
	return n.reg.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "egret_revocations",
		Help: "Revocations by hand (egret revoke) that are in force. One that policy has caught up with wants to be lifted.",
	}, func() float64 { return float64(len(n.revoked.all())) }))
}
