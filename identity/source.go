// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/egret-proxy/egret/internal/secret"
)

// SourceOptions says which Workload API to follow and what to take from it.
type SourceOptions struct {
	// Address is unix:///path or tcp://ip:port; empty: $SPIFFE_ENDPOINT_SOCKET.
	Address string
	// TrustDomains are those that may vouch for anybody, egret included. Required.
	TrustDomains []spiffeid.TrustDomain
	// ID and Hint select egret's own SVID where the agent returns several. With
	// neither, more than one is refused: the first of a list is nobody's decision.
	ID   spiffeid.ID
	Hint string

	Logger     *slog.Logger          // default: nothing is logged
	Registerer prometheus.Registerer // default: no metrics
}

// Source follows the SPIFFE Workload API: egret's own X.509-SVID and the bundles of the
// allowed trust domains. It implements x509bundle.Source and jwtbundle.Source. All
// reads are of immutable snapshots and take no lock; bundles that it returned are
// never changed, a change arrives as another bundle.
//
// When the API goes away the last answer is kept until the SVID in it has ended, and
// the connection is tried again for as long as Run lives. When the API says that
// egret is entitled to nothing (PermissionDenied), everything is dropped at once.
type Source struct {
	options SourceOptions
	address string
	client  atomic.Pointer[workloadapi.Client] // while Run lives

	x509 atomic.Pointer[x509Answer]
	jwt  atomic.Pointer[jwtAnswer]

	x509Up, jwtUp atomic.Bool // the stream's last word was an answer
	ready         chan struct{}
	readyOnce     sync.Once
}

// x509Answer is one answer about X.509, immutable.
type x509Answer struct {
	svid    *x509svid.SVID
	refused error // why there is no svid
	bundles map[spiffeid.TrustDomain]*x509bundle.Bundle
	ends    time.Time // of the last SVID in it: from then on the answer is too old
}

// jwtAnswer is one answer about JWT bundles, immutable.
type jwtAnswer struct {
	answered bool  // false: the API denied
	refused  error // why there are no bundles
	bundles  map[spiffeid.TrustDomain]*jwtbundle.Bundle
}

// NewSource checks the options and registers the metrics. It does no I/O; Run does.
func NewSource(o SourceOptions) (*Source, error) {
	if len(o.TrustDomains) == 0 {
		return nil, errors.New("workload API: no trust domain is allowed; list at least that of egret itself")
	}
	address := o.Address
	if address == "" {
		address, _ = workloadapi.GetDefaultAddress()
	}
	if address == "" {
		return nil, fmt.Errorf("workload API: no address given; set one or $%s, such as %q", workloadapi.SocketEnv, "unix:///run/spire/agent.sock")
	}
	if err := workloadapi.ValidateAddress(address); err != nil {
		return nil, fmt.Errorf("workload API: address %q: %w; write unix:///path or tcp://ip:port", address, err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.TrustDomains = slices.Clone(o.TrustDomains)
	s := &Source{options: o, address: address, ready: make(chan struct{})}
	return s, s.register(o.Registerer)
}

func (s *Source) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	gauges := []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "egret_svid_expiry_seconds",
			Help: "Seconds until egret's own X.509-SVID ends; 0 where there is none.",
		}, s.secondsLeft),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "egret_workload_api_up",
			Help: "1 while the Workload API answers on every stream that egret holds, else 0.",
		}, s.up),
	}
	for _, g := range gauges {
		if err := r.Register(g); err != nil {
			return fmt.Errorf("workload API: register metrics: %w", err)
		}
	}
	return nil
}

func (s *Source) secondsLeft() float64 {
	svid, err := s.SVID()
	if err != nil {
		return 0
	}
	return time.Until(svid.Certificates[0].NotAfter).Seconds()
}

func (s *Source) up() float64 {
	if s.x509Up.Load() && s.jwtUp.Load() {
		return 1
	}
	return 0
}

// How the API is tried again. Both the gRPC channel and the watches back off; an agent
// that restarts is back within seconds, and a fleet must not knock in step.
const (
	firstRetry = 250 * time.Millisecond
	lastRetry  = 15 * time.Second
)

// Run follows the API until ctx ends, and returns nil then. It must be called once; an
// error means that the client could not be made at all.
func (s *Source) Run(ctx context.Context) error {
	client, err := workloadapi.New(ctx,
		workloadapi.WithAddr(s.address),
		workloadapi.WithBackoffStrategy(jitteredBackoff{}),
		workloadapi.WithDialOptions(grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstRetry, Multiplier: 1.6, Jitter: 0.2, MaxDelay: lastRetry},
			MinConnectTimeout: 5 * time.Second,
		})))
	if err != nil {
		return fmt.Errorf("workload API: client of %q: %w", s.address, err)
	}
	s.client.Store(client)
	var watches sync.WaitGroup
	watches.Go(func() {
		persist(ctx, func() error { return client.WatchX509Context(ctx, x509Watcher{s}) })
	})
	watches.Go(func() {
		persist(ctx, func() error { return client.WatchJWTBundles(ctx, jwtWatcher{s}) })
	})
	watches.Wait()
	s.client.Store(nil)
	s.x509Up.Store(false)
	s.jwtUp.Store(false)
	return client.Close()
}

// Ready is closed when the API has answered about X.509 and about JWT bundles for the
// first time. SVID tells whether the answer is of use.
func (s *Source) Ready() <-chan struct{} { return s.ready }

func (s *Source) markReady() {
	x, j := s.x509.Load(), s.jwt.Load()
	if x != nil && x.bundles != nil && j != nil && j.answered {
		s.readyOnce.Do(func() { close(s.ready) })
	}
}

// SVID returns egret's own X.509-SVID and key; the caller must not change it. Errors:
// ErrUnavailable before the first answer, ErrExpired once it has ended and the API has
// not renewed it, ErrRevoked when the API no longer issues it, ErrTrustDomain when it
// is of a domain that is not allowed, ErrInvalid when the API returned several and
// neither ID nor Hint selects one.
func (s *Source) SVID() (*x509svid.SVID, error) {
	a := s.x509.Load()
	switch {
	case a == nil:
		return nil, fmt.Errorf("%w: the workload API at %q has not answered yet", ErrUnavailable, s.address)
	case a.refused != nil:
		return nil, a.refused
	case !time.Now().Before(a.svid.Certificates[0].NotAfter):
		return nil, fmt.Errorf("%w: egret's own SVID ended at %s and the workload API has not renewed it",
			ErrExpired, a.svid.Certificates[0].NotAfter.UTC().Format(time.RFC3339))
	}
	return a.svid, nil
}

// GetX509BundleForTrustDomain implements x509bundle.Source. Errors: ErrTrustDomain for
// a domain that is not allowed, ErrUnavailable when there is no answer or the last one
// is too old, ErrRevoked when the API has denied egret everything, another error when
// the API knows no such bundle.
func (s *Source) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	a := s.x509.Load()
	if err := s.usable(td, a); err != nil {
		return nil, err
	}
	b, ok := a.bundles[td]
	if !ok {
		return nil, fmt.Errorf("the workload API has no X.509 bundle of trust domain %q", td)
	}
	return b, nil
}

// GetJWTBundleForTrustDomain implements jwtbundle.Source, with the errors of
// GetX509BundleForTrustDomain.
func (s *Source) GetJWTBundleForTrustDomain(td spiffeid.TrustDomain) (*jwtbundle.Bundle, error) {
	if err := s.usable(td, s.x509.Load()); err != nil {
		return nil, err
	}
	a := s.jwt.Load()
	switch {
	case a == nil:
		return nil, fmt.Errorf("%w: the workload API at %q has not answered yet", ErrUnavailable, s.address)
	case a.refused != nil:
		return nil, a.refused
	}
	b, ok := a.bundles[td]
	if !ok {
		return nil, fmt.Errorf("the workload API has no JWT bundle of trust domain %q", td)
	}
	return b, nil
}

// usable says whether bundles may be used at all. JWT bundles have no end of their
// own, so the end of egret's SVID stands for both: an egret that could not renew its
// own identity cannot know which keys have been revoked since.
func (s *Source) usable(td spiffeid.TrustDomain, a *x509Answer) error {
	switch {
	case !slices.Contains(s.options.TrustDomains, td):
		return fmt.Errorf("%w: %q", ErrTrustDomain, td)
	case a == nil:
		return fmt.Errorf("%w: the workload API at %q has not answered yet", ErrUnavailable, s.address)
	case a.bundles == nil:
		return a.refused
	case !time.Now().Before(a.ends):
		return fmt.Errorf("%w: the last answer of the workload API is too old, its SVIDs ended at %s",
			ErrUnavailable, a.ends.UTC().Format(time.RFC3339))
	}
	return nil
}

// FetchJWTSVID asks the agent for egret's own JWT-SVID for exactly one audience, and
// returns it with its expiry. Nothing is cached here: the agent does. The subject must
// be the ID of SVID (MUST I7). Errors: those of SVID, ErrUnavailable when the agent
// does not answer, ErrRevoked when it denies, ErrInvalid when it answers something else
// than what was asked for.
func (s *Source) FetchJWTSVID(ctx context.Context, audience string) (secret.Secret, time.Time, error) {
	none := secret.Secret{}
	if audience == "" {
		return none, time.Time{}, fmt.Errorf("%w: no audience given for a JWT-SVID; name the service that it is for", ErrInvalid)
	}
	own, err := s.SVID()
	if err != nil {
		return none, time.Time{}, err
	}
	client := s.client.Load()
	if client == nil {
		return none, time.Time{}, fmt.Errorf("%w: the workload API is not being followed", ErrUnavailable)
	}
	svid, err := client.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience, Subject: own.ID})
	if err != nil {
		return none, time.Time{}, fetchError(err)
	}
	if svid.ID != own.ID || !slices.Equal(svid.Audience, []string{audience}) {
		return none, time.Time{}, fmt.Errorf("%w: asked the agent for a JWT-SVID of %q for %q, got one of %q for %q",
			ErrInvalid, own.ID, audience, svid.ID, svid.Audience)
	}
	return secret.New(svid.Marshal()), svid.Expiry, nil
}

func fetchError(err error) error {
	kind := ErrUnavailable
	switch status.Code(err) {
	case codes.PermissionDenied:
		kind = ErrRevoked
	case codes.InvalidArgument:
		kind = ErrInvalid
	}
	return fmt.Errorf("%w: fetch JWT-SVID: %w", kind, err)
}

// GetX509SVID implements x509svid.Source: egret's own SVID, for its own TLS connections.
// It is SVID.
func (s *Source) GetX509SVID() (*x509svid.SVID, error) { return s.SVID() }
