// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package steer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/egret-proxy/egret/internal/netns"
)

// Rules installs and removes the redirection of one namespace. It is called on a thread
// that is in the namespace. Install must be idempotent.
type Rules interface {
	Install(ctx context.Context) error
	Remove(ctx context.Context) error
}

// Options are what a Steersman is made of. Rules and Port are required.
type Options struct {
	Rules Rules
	Port  uint16 // of the listening sockets, on the loopback of every pod
	UID   uint32 // of the Receiver; root may connect too
	Max   int    // namespaces; default 1024
	Log   *slog.Logger
}

// defaultMax is several times what a kubelet allows on a node.
const defaultMax = 1024

// Steersman opens sockets in namespaces and passes them to Receivers. Make it with New,
// tell it of namespaces by Add and Remove, say when those of the start are Settled, and Serve
// Receivers. Safe for concurrent use.
// Close leaves rules and the Receivers' sockets as they are, so that what is steered stays
// captured: only Remove takes rules away.
type Steersman struct {
	o    Options
	log  *slog.Logger
	own  uint64 // cookie of this process' namespace
	work sync.WaitGroup

	mu       sync.Mutex
	pods     map[string]*steered
	sessions map[*session]bool
	orphans  map[string]orphan // given back, and not steered yet
	settled  bool              // all that there was at the start has been added
}

// orphan is a namespace that a Receiver serves and the Steersman of now has not met.
type orphan struct {
	pod Pod
	s   sockets
}

// steered is one namespace. All but netns is guarded by Steersman.mu.
type steered struct {
	pod     Pod
	netns   *netns.NS
	s       sockets       // none while pending
	opening bool          // sockets and rules are being made
	pending bool          // a Receiver of before holds the sockets
	served  chan struct{} // closed with the first answer of a Receiver
	err     error         // why it is not served
	gone    bool
}

// Status is what is known of one namespace.
type Status struct {
	Pod
	State string `json:"state"` // served, waiting (for a Receiver), failed
	Error string `json:"error,omitempty"`
}

// initialNetNS is the machine's own network namespace: the first that there was. A
// Steersman may itself be in another one, a pod's.
const initialNetNS = 1

// Errors of Add.
var (
	ErrHostNetwork = errors.New("is in the host's network: its connections cannot be told from those of others; give it a network of its own, or let it use HTTPS_PROXY")
	ErrLoop        = errors.New("is the one that egret run itself is in: its own connections would come back to it; start egret run where nobody is steered")
	ErrFull        = errors.New("too many namespaces are steered")
	ErrPortTaken   = errors.New("the port is taken by a process of the pod")
)

// New makes a Steersman. It needs Linux 5.14.
func New(o Options) (*Steersman, error) {
	if o.Rules == nil || o.Port == 0 {
		return nil, errors.New("steer: rules and a port must be given")
	}
	if o.Max <= 0 {
		o.Max = defaultMax
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	own, err := cookieHere()
	if err != nil {
		return nil, fmt.Errorf("steer: %w", err)
	}
	return &Steersman{o: o, log: o.Log, own: own, pods: map[string]*steered{}, sessions: map[*session]bool{}, orphans: map[string]orphan{}}, nil
}

// Add steers a namespace: opens its sockets, has the rules installed and passes the
// sockets to the Receivers there are. ns is the Steersman's from then on. p.NetNS is
// found out. A namespace that is steered already under this key is left as it is; another
// one under it takes its place. It does not wait for a Receiver: see Served.
func (m *Steersman) Add(ctx context.Context, p Pod, ns *netns.NS) error {
	var err error
	if inner := ns.Do(func() error { p.NetNS, err = cookieHere(); return err }); inner != nil {
		return errors.Join(inner, ns.Close())
	}
	if err := p.check(); err != nil {
		return errors.Join(err, ns.Close())
	}
	if p.NetNS == m.own || p.NetNS == initialNetNS {
		return errors.Join(fmt.Errorf("pod %s %w", p, ErrHostNetwork), ns.Close())
	}
	x, fresh, err := m.enter(ctx, p, ns)
	if err != nil || !fresh {
		return errors.Join(err, ns.Close())
	}
	if err := m.open(ctx, x); err != nil {
		m.fail(x, err)
		return fmt.Errorf("pod %s: %w", p, err)
	}
	m.log.Info("steering", "pod", p.String(), "key", p.Key, "netns", p.NetNS)
	return nil
}

// enter makes room for a namespace. fresh is false where it is there already.
func (m *Steersman) enter(ctx context.Context, p Pod, ns *netns.NS) (x *steered, fresh bool, err error) {
	m.mu.Lock()
	old := m.pods[p.Key]
	switch {
	case old != nil && old.pod.same(p) && old.err == nil:
		m.mu.Unlock()
		return old, false, nil
	case old == nil && len(m.pods) >= m.o.Max:
		m.mu.Unlock()
		return nil, false, fmt.Errorf("%w: %d", ErrFull, m.o.Max)
	}
	for _, other := range m.pods {
		if other.pod.NetNS == p.NetNS && other.pod.Key != p.Key {
			m.mu.Unlock()
			return nil, false, fmt.Errorf("pod %s shares its network namespace with %s, which is steered already", p, other.pod)
		}
	}
	x = &steered{pod: p, netns: ns, opening: true, served: make(chan struct{})}
	m.pods[p.Key] = x
	m.mu.Unlock()
	if old != nil {
		m.leave(ctx, old, old.pod.same(p)) // between two attempts nothing gets past
	}
	return x, true, nil
}

func (m *Steersman) fail(x *steered, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	x.err, x.opening = err, false
	m.dropOrphanLocked(x.pod.Key)
	x.settle()
}

// settle lets those go on that wait for it. The caller holds Steersman.mu.
func (x *steered) settle() {
	select {
	case <-x.served:
	default:
		close(x.served)
	}
}

// passLocked gives the sockets to every Receiver. The caller holds m.mu.
func (m *Steersman) passLocked(x *steered) {
	for t := range m.sessions {
		if t.told {
			t.add(x)
		}
	}
}

// Remove ends the steering of a key: the Receivers close their sockets, and the rules are
// taken away. A namespace that is gone with all its processes needs no rules removed.
func (m *Steersman) Remove(ctx context.Context, key string) {
	m.drop(ctx, key, false)
}

// drop ends the steering of a key; its rules may stay in force.
func (m *Steersman) drop(ctx context.Context, key string, captured bool) {
	m.mu.Lock()
	x := m.pods[key]
	delete(m.pods, key)
	m.mu.Unlock()
	if x != nil {
		m.leave(ctx, x, captured)
	}
}

// leave takes back what was done to a namespace, which is not in m.pods any more. Its
// rules may stay in force.
func (m *Steersman) leave(ctx context.Context, x *steered, captured bool) {
	m.mu.Lock()
	x.gone = true
	if x.err == nil {
		x.err = errors.New("it is not steered any more")
	}
	x.settle()
	for t := range m.sessions {
		t.post(message{Type: typeRemove, Pod: &x.pod})
	}
	s := x.s
	x.s = sockets{}
	if m.pods[x.pod.Key] == nil {
		m.dropOrphanLocked(x.pod.Key)
	}
	m.mu.Unlock()
	if s.diag != nil {
		s.close()
	}
	if !captured {
		if err := x.netns.Do(func() error { return m.o.Rules.Remove(context.WithoutCancel(ctx)) }); err != nil {
			m.log.Warn("rules were not removed", "pod", x.pod.String(), "error", err)
		}
	}
	_ = x.netns.Close()
	m.log.Info("not steering any more", "pod", x.pod.String(), "key", x.pod.Key, "netns", x.pod.NetNS)
}

// Served waits until a Receiver serves the namespace, and returns why it does not.
func (m *Steersman) Served(ctx context.Context, key string) error {
	m.mu.Lock()
	x := m.pods[key]
	m.mu.Unlock()
	if x == nil {
		return fmt.Errorf("pod %q is not steered", key)
	}
	select {
	case <-x.served:
	case <-ctx.Done():
		return fmt.Errorf("no egret run has taken the sockets: %w", context.Cause(ctx))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return x.err
}

// Status lists all namespaces, by key.
func (m *Steersman) Status() []Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := []Status{}
	for _, x := range m.pods {
		s := Status{Pod: x.pod, State: "waiting"}
		select {
		case <-x.served:
			s.State = "served"
		default:
		}
		if x.err != nil {
			s.State, s.Error = "failed", x.err.Error()
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Status) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// Close lets go of everything without changing any namespace.
func (m *Steersman) Close() {
	m.mu.Lock()
	for t := range m.sessions {
		t.end()
	}
	m.mu.Unlock()
	m.work.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, x := range m.pods {
		if x.s.diag != nil {
			x.s.close()
		}
		_ = x.netns.Close()
	}
	clear(m.pods)
	for key := range m.orphans {
		m.dropOrphanLocked(key)
	}
}
