// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/cmd/egret/internal/node"
	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/identity/embedded"
	"github.com/egret-proxy/egret/identity/embedded/delegate"
	"github.com/egret-proxy/egret/identity/kernel"
	"github.com/egret-proxy/egret/identity/process"
)

func pid() int { return os.Getpid() }

// subject is the process that is asked about, as the kernel knows it now.
type subject struct {
	facts   kernel.Facts
	cgroup  string
	cgroups *kernel.Cgroups // nil where there is no v2
}

func look(pid int) (subject, error) {
	held, err := kernel.Open(pid)
	if err != nil {
		return subject{}, err
	}
	defer held.Close()
	s := subject{}
	if s.facts, err = held.Facts(); err != nil {
		return s, err
	}
	if s.cgroups, err = kernel.FindCgroups(); err == nil {
		s.cgroup, _ = s.cgroups.Path(s.facts.Cgroup)
	}
	return s, nil
}

// process tells by what a process would be known, why that can be trusted, and who the
// attestor says that it is.
func (e *examination) process(ctx context.Context, check string, l config.Listener) {
	s, err := look(cmp.Or(e.PID, pid()))
	if err != nil {
		e.bad(e.gravity(), check, "name a process of this machine that runs (--pid), on Linux", err)
		return
	}
	p, tcp := l.Identify.Process, !strings.HasPrefix(l.Address, "unix://")
	evidence := e.evidence(s, l)
	switch {
	case tcp && s.cgroup == "":
		e.bad(Fail, check, "run on Linux with cgroup v2, or identify by jwtSVID or x509SVID", "the cgroup v2 of process "+fmt.Sprint(s.facts.PID)+" is not known")
		return
	case tcp && s.cgroup == "/" && !p.RootCgroup:
		e.bad(Warn, check, "run workloads in cgroups of their own (systemd units, containers), or set rootCgroup", evidence+"; callers in the top cgroup are refused")
		return
	}
	at := e.attestors[wayOf(p)]
	if at == nil {
		e.ok(check, "%s; who that is cannot be asked now", evidence)
		return
	}
	id, err := e.whois(ctx, at, l, s)
	if err != nil {
		e.unknown(check, evidence, err)
		return
	}
	e.ok(check, "%s; %s says that this is %s", evidence, e.attesting(p), id)
}

// unknown tells of a process that would be refused. That is as it should be of doctor,
// which runs as egret.
func (e *examination) unknown(check, evidence string, err error) {
	found := fmt.Sprintf("%s; it would be refused: %s", evidence, refusal(err))
	if e.PID == 0 {
		e.ok(check, "%s (ask about a program's process with --pid)", found)
		return
	}
	change := "see the agent's log"
	switch {
	case errors.Is(err, identity.ErrRevoked):
		change = "make a registration entry (of the embedded issuer: spiffe.embedded.entries) whose selectors fit this evidence; it reaches the agent within 5 s"
	case errors.Is(err, identity.ErrUnknown):
		change = "write a Workload with its SPIFFE ID, which is not egret's own"
	case errors.Is(err, identity.ErrInvalid):
		change = "narrow its registration entries, or the Workloads, until one identity is left"
	case errors.Is(err, identity.ErrTrustDomain):
		change = "add its trust domain to spiffe.trustDomains, or register it in one that is there"
	}
	e.bad(Warn, check, change, found)
}

// refusal says in words why a process has no identity. The kind of error is for who has
// had one: a process that is not registered has lost nothing.
func refusal(err error) string {
	return strings.TrimPrefix(err.Error(), identity.ErrRevoked.Error()+": ")
}

// gravity is that of a process that cannot be looked at: another's may have ended.
func (e *examination) gravity() Level {
	if e.PID != 0 {
		return Warn
	}
	return Fail
}

func (e *examination) attesting(p *config.Process) string {
	if p.Attestor == "embedded" {
		return "egret's embedded issuer"
	}
	return "the SPIRE agent"
}

// evidence is what the kernel says of a caller, and why that is trusted, in a line.
func (e *examination) evidence(s subject, l config.Listener) string {
	p, tcp := l.Identify.Process, !strings.HasPrefix(l.Address, "unix://")
	who, whose := "you are", "your"
	if e.PID != 0 {
		who, whose = fmt.Sprintf("process %d is", e.PID), "this"
	}
	by := e.attesting(p)
	switch {
	case strings.HasPrefix(l.Address, config.SteerPrefix):
		return fmt.Sprintf("in a pod %s known by cgroup %s and uid %d; trust: the kernel says in which network namespace, in which cgroup and as which uid a socket was made, and %s attests a process of the last two; where the CNI plugin has told the pod's UID, the cgroup must be that pod's; its name in records is the word of who made the namespace, and a mesh's proxy is known as itself", who, s.cgroup, s.facts.UID, by)
	case p.Reference == config.ReferencePod:
		return fmt.Sprintf("%s known by the Kubernetes pod of cgroup %s; trust: the kernel says in which cgroup a socket was made, only root can name one after a pod, and %s looks the pod up at its kubelet", who, s.cgroup, by)
	case tcp:
		return fmt.Sprintf("%s known by cgroup %s and uid %d; trust: the kernel says in which cgroup and as which uid a socket was made, and %s attests a process of both", who, s.cgroup, s.facts.UID, by)
	}
	return fmt.Sprintf("%s whom %s finds in %s very process (PID %d, uid %d); trust: the kernel hands over a pidfd of who connected, and %[2]s attests that process", who, by, whose, s.facts.PID, s.facts.UID)
}

// whois asks as a listener does, with a connection that the process might have made.
func (e *examination) whois(ctx context.Context, at process.Attestor, l config.Listener, s subject) (spiffeid.ID, error) {
	tds, err := domains(e.Config.Spiffe.TrustDomains)
	if err != nil {
		return spiffeid.ID{}, err
	}
	p := l.Identify.Process
	r, err := process.New(process.Options{
		Attestor: at, TrustDomains: tds, Cgroups: s.cgroups, Hybrid: p.Hybrid || strings.HasPrefix(l.Address, "unix://"), RootCgroup: p.RootCgroup,
		Accept: func(id spiffeid.ID) bool { return id.String() != e.self.id && e.IsWorkload(id) },
	})
	if err != nil {
		return spiffeid.ID{}, err
	}
	defer r.Close()
	peer, done, err := connected(s, !strings.HasPrefix(l.Address, "unix://"))
	if err != nil {
		return spiffeid.ID{}, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, e.Wait)
	defer cancel()
	c, err := r.Resolve(ctx, identity.Peer{Proc: &peer})
	if err != nil {
		return spiffeid.ID{}, err
	}
	w, err := c.Workload()
	return w.ID, err
}

// embedded is an issuer like the one that egret would have, with its entries.
func (e *examination) embedded() (process.Attestor, func()) {
	const check = "embedded issuer"
	srv, stop, err := e.embeddedServer()
	if err != nil {
		e.bad(Fail, check, "see spiffe.embedded.entries", err)
		return nil, func() {}
	}
	at, err := delegate.New(srv, delegate.Options{})
	if err != nil {
		e.bad(Fail, check, "see spiffe.embedded.entries", err)
		return nil, stop
	}
	e.ok(check, "knows callers by %d entries", len(e.Config.Spiffe.Embedded.Entries))
	return at, stop
}

func (e *examination) embeddedServer() (*embedded.Server, func(), error) {
	c := e.Config.Spiffe.Embedded
	id, err := spiffeid.FromString(c.SpiffeID)
	if err != nil {
		return nil, nil, err
	}
	entries, err := node.EmbeddedEntries(c.Entries)
	if err != nil {
		return nil, nil, err
	}
	issuer, err := embedded.New(embedded.Options{TrustDomain: id.TrustDomain()})
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp("", "egret-doctor-")
	if err != nil {
		return nil, nil, err
	}
	srv, err := issuer.Listen(filepath.Join(dir, "agent.sock"), entries...)
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = srv.Serve(ctx) })
	return srv, func() { cancel(); running.Wait(); _ = os.RemoveAll(dir) }, nil
}
