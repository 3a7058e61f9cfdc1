// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// countingIssuer is the real issuer behind a switch and a counter.
type countingIssuer struct {
	Issuer
	calls atomic.Int64
	fail  atomic.Pointer[error]
	hang  atomic.Bool
}

func (c *countingIssuer) Issue(ctx context.Context, host string, pub crypto.PublicKey, ttl time.Duration) ([][]byte, error) {
	c.calls.Add(1)
	if c.hang.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if err := c.fail.Load(); err != nil {
		return nil, *err
	}
	return c.Issuer.Issue(ctx, host, pub, ttl)
}

func newIssuer(t testing.TB, hosts ...string) *countingIssuer {
	t.Helper()
	e, err := NewEphemeralIssuer(EphemeralOptions{Hosts: hosts})
	if err != nil {
		t.Fatal(err)
	}
	return &countingIssuer{Issuer: e}
}

func newAuthority(t testing.TB, opt AuthorityOptions) *Authority {
	t.Helper()
	if opt.Listed == nil {
		opt.Listed = func(string) bool { return true }
	}
	a, err := NewAuthority(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func mustLeaf(t testing.TB, a *Authority, host string) *tls.Certificate {
	t.Helper()
	c, err := a.Leaf(context.Background(), host)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestMUST_K1_OneKeyPerProcess(t *testing.T) {
	issuer := newIssuer(t, "slack.com", "github.com")
	a, b := newAuthority(t, AuthorityOptions{Issuer: issuer}), newAuthority(t, AuthorityOptions{Issuer: issuer})
	slack := mustLeaf(t, a, "slack.com")
	if !samePublicKey(slack.Leaf.PublicKey, mustLeaf(t, a, "github.com").Leaf.PublicKey) {
		t.Error("two hosts of one process have two keys")
	}
	if samePublicKey(slack.Leaf.PublicKey, mustLeaf(t, b, "slack.com").Leaf.PublicKey) {
		t.Error("two processes share a key: it is derived from something")
	}
	if d := slack.Leaf.NotAfter.Sub(slack.Leaf.NotBefore); d > 24*time.Hour {
		t.Errorf("the leaf lives %s", d)
	}
	if _, err := NewAuthority(AuthorityOptions{Issuer: issuer, Listed: a.listed, LeafTTL: 25 * time.Hour}); err == nil {
		t.Error("a leafTTL over 24h is accepted")
	}
	if _, err := NewAuthority(AuthorityOptions{}); err == nil {
		t.Error("no issuer and no table are accepted")
	}
}

// An issuer in another process may answer anything.
func TestMUST_K1_IssuersAnswerChecked(t *testing.T) {
	ca := newIntermediate(t, newRoot(t, "slack.com"), 0, "slack.com")
	key := newKey(t)
	good, err := ca.leaf("slack.com", key.Public(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	signed := func(ttl time.Duration, ips []net.IP, dns ...string) []byte {
		return forgeFor(t, ca, forged{pub: key.Public(), dns: dns, ips: ips, ttl: ttl})
	}
	tests := []struct {
		name string
		der  []byte
		ok   bool
	}{
		{"good", good, true},
		{"another key", forge(t, ca, []string{"slack.com"}, nil)[0], false},
		{"a CA", ca.cert.Raw, false},
		{"another host", signed(time.Hour, nil, "evil.com"), false},
		{"two hosts", signed(time.Hour, nil, "slack.com", "evil.com"), false},
		{"an address too", signed(time.Hour, []net.IP{net.IPv4(10, 0, 0, 1)}, "slack.com"), false},
		{"too long", signed(25*time.Hour, nil, "slack.com"), false},
		{"ended", signed(-time.Second, nil, "slack.com"), false},
		{"garbage", []byte("x"), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := checkLeaf([][]byte{tt.der}, "slack.com", key.Public()); (err == nil) != tt.ok {
				t.Errorf("got %v, want ok=%v", err, tt.ok)
			}
		})
	}
	if _, err := checkLeaf(nil, "slack.com", key.Public()); err == nil {
		t.Error("an empty chain is accepted")
	}
}

func TestMUST_K3_OnlyListedHosts(t *testing.T) {
	issuer := newIssuer(t, "slack.com")
	var listed sync.Map
	listed.Store("slack.com", true)
	for _, h := range []string{"10.0.0.1", "SLACK.com", "github.com"} {
		listed.Store(h, true) // even then there is no leaf
	}
	a := newAuthority(t, AuthorityOptions{Issuer: issuer, Listed: func(h string) bool { _, ok := listed.Load(h); return ok }})
	mustLeaf(t, a, "slack.com")
	for host, want := range map[string]error{
		"evil.com":      ErrNotListed,
		"api.slack.com": ErrNotListed, // the intermediate would permit it
		"":              ErrNotListed,
		"10.0.0.1":      ErrInvalidHost,
		"SLACK.com":     ErrInvalidHost,
		"github.com":    ErrNotPermitted,
	} {
		if _, err := a.Leaf(context.Background(), host); !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", host, err, want)
		}
	}
	listed.Delete("slack.com")
	if _, err := a.Leaf(context.Background(), "slack.com"); !errors.Is(err, ErrNotListed) {
		t.Errorf("a cached leaf outlives its host's place in the table: %v", err)
	}
}

func TestMUST_K3_MintingLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t, AuthorityOptions{Issuer: newIssuer(t, "example.com"), MintRate: 2})
		busy := 0
		for i := range 10 {
			if _, err := a.Leaf(context.Background(), fmt.Sprintf("h%d.example.com", i)); errors.Is(err, ErrBusy) {
				busy++
			}
		}
		if busy != 6 {
			t.Errorf("%d of 10 were refused, want 6: a burst is twice the rate", busy)
		}
		mustLeaf(t, a, "h0.example.com") // a cached one needs no token
		time.Sleep(time.Second)
		mustLeaf(t, a, "h8.example.com")
		mustLeaf(t, a, "h9.example.com")
		if _, err := a.Leaf(context.Background(), "h7.example.com"); !errors.Is(err, ErrBusy) {
			t.Errorf("a third in one second: %v", err)
		}
	})
}

func TestMUST_K3_CacheBounded(t *testing.T) {
	issuer := newIssuer(t, "example.com")
	a := newAuthority(t, AuthorityOptions{Issuer: issuer, CacheSize: 3})
	for i := range 10 {
		mustLeaf(t, a, fmt.Sprintf("h%d.example.com", i))
	}
	if n := a.cache.Len(); n != 3 {
		t.Errorf("the cache holds %d leaves", n)
	}
	before := issuer.calls.Load()
	mustLeaf(t, a, "h9.example.com")
	if issuer.calls.Load() != before {
		t.Error("the newest leaf was dropped")
	}
	a.Purge()
	mustLeaf(t, a, "h9.example.com")
	if issuer.calls.Load() != before+1 {
		t.Error("Purge kept a leaf")
	}
}

// The interception CA works for clients, and only for them: the pool that verifies
// upstreams refuses it in any form.
func TestMUST_K4_NeverAnUpstreamRoot(t *testing.T) {
	e, err := NewEphemeralIssuer(EphemeralOptions{Hosts: []string{"slack.com"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range e.Authorities() {
		if err := CheckUpstreamPool([]*x509.Certificate{foreignCA(t).cert, c}); err == nil {
			t.Errorf("%v may verify upstreams", c.Subject)
		}
	}
}

func TestTenThousandCallersOneSignature(t *testing.T) {
	issuer := newIssuer(t, "slack.com")
	a := newAuthority(t, AuthorityOptions{Issuer: issuer})
	var wg sync.WaitGroup
	var failed atomic.Int64
	for range 10_000 {
		wg.Go(func() {
			if _, err := a.Leaf(context.Background(), "slack.com"); err != nil {
				failed.Add(1)
			}
		})
	}
	wg.Wait()
	if failed.Load() != 0 || issuer.calls.Load() != 1 {
		t.Errorf("%d failed, %d signatures", failed.Load(), issuer.calls.Load())
	}
}

func TestLeafHandshake(t *testing.T) {
	e, err := NewEphemeralIssuer(EphemeralOptions{Hosts: []string{"slack.com"}})
	if err != nil {
		t.Fatal(err)
	}
	a := newAuthority(t, AuthorityOptions{Issuer: e})
	server, client := net.Pipe()
	done := make(chan error, 1)
	go func() {
		conn := tls.Server(server, &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return a.Leaf(h.Context(), h.ServerName)
		}})
		done <- errors.Join(conn.Handshake(), server.Close())
	}()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(e.BundlePEM())
	err = tls.Client(client, &tls.Config{RootCAs: pool, ServerName: "slack.com"}).Handshake()
	_ = client.Close()
	if err := errors.Join(err, <-done); err != nil {
		t.Fatal(err)
	}
}

func TestLeafRenewedAtHalfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := newIssuer(t, "slack.com")
		a := newAuthority(t, AuthorityOptions{Issuer: issuer, LeafTTL: time.Hour})
		first := mustLeaf(t, a, "slack.com")
		time.Sleep(29 * time.Minute)
		if mustLeaf(t, a, "slack.com") != first || issuer.calls.Load() != 1 {
			t.Error("renewed before half life")
		}
		time.Sleep(2 * time.Minute)
		if mustLeaf(t, a, "slack.com") != first {
			t.Error("the caller waited for a renewal in the background")
		}
		synctest.Wait()
		second := mustLeaf(t, a, "slack.com")
		if second == first || issuer.calls.Load() != 2 {
			t.Errorf("not renewed after half life: %d signatures", issuer.calls.Load())
		}
		time.Sleep(50 * time.Minute) // under a quarter is left: the caller waits
		if mustLeaf(t, a, "slack.com") == second {
			t.Error("a leaf near its end is given out although another could be made")
		}
	})
}

func TestMUST_K6_CachedHostsGoOnDuringOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := newIssuer(t, "slack.com", "github.com")
		a := newAuthority(t, AuthorityOptions{Issuer: issuer, LeafTTL: time.Hour})
		first := mustLeaf(t, a, "slack.com")
		down := errors.New("connection refused")
		issuer.fail.Store(&down)
		for range 59 {
			time.Sleep(time.Minute)
			if mustLeaf(t, a, "slack.com") != first {
				t.Fatal("another leaf out of nowhere")
			}
		}
		if n := issuer.calls.Load(); n < 10 || n > 35 {
			t.Errorf("%d attempts in half an hour, want about one a minute", n)
		}
		if _, err := a.Leaf(context.Background(), "github.com"); !errors.Is(err, down) {
			t.Errorf("a new host during the outage: %v", err)
		}
		time.Sleep(2 * time.Minute)
		if _, err := a.Leaf(context.Background(), "slack.com"); !errors.Is(err, down) {
			t.Errorf("an ended leaf is given out: %v", err)
		}
		issuer.fail.Store(nil)
		mustLeaf(t, a, "slack.com")
	})
}

func TestHangingIssuerHoldsNobodyForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := newIssuer(t, "slack.com", "github.com")
		a := newAuthority(t, AuthorityOptions{Issuer: issuer, LeafTTL: time.Hour})
		mustLeaf(t, a, "slack.com")
		issuer.hang.Store(true)
		time.Sleep(50 * time.Minute)
		begin := time.Now()
		mustLeaf(t, a, "slack.com")
		if d := time.Since(begin); d > renewWait {
			t.Errorf("a host with a leaf waited %s", d)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := a.Leaf(ctx, "github.com"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a caller who leaves: %v", err)
		}
		begin = time.Now()
		if _, err := a.Leaf(context.Background(), "github.com"); err == nil || time.Since(begin) > mintTimeout {
			t.Errorf("a caller who stays: %v after %s", err, time.Since(begin))
		}
	})
}

func TestLeafCappedByIntermediate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := issuerOf(t, newIntermediate(t, newRoot(t, "slack.com"), time.Hour, "slack.com"))
		counted := &countingIssuer{Issuer: f}
		a := newAuthority(t, AuthorityOptions{Issuer: counted})
		end := mustLeaf(t, a, "slack.com").Leaf.NotAfter
		if end.After(f.Expires()) {
			t.Errorf("the leaf ends at %s, the intermediate at %s", end, f.Expires())
		}
		for range 590 { // nothing longer can be had: no storm of signatures
			time.Sleep(6 * time.Second)
			mustLeaf(t, a, "slack.com")
		}
		if n := counted.calls.Load(); n > 15 {
			t.Errorf("%d signatures while the intermediate ends", n)
		}
		time.Sleep(2 * time.Minute)
		if _, err := a.Leaf(context.Background(), "slack.com"); !errors.Is(err, ErrExpired) {
			t.Errorf("after the intermediate's end: %v", err)
		}
	})
}

func TestAuthorityClose(t *testing.T) {
	issuer := newIssuer(t, "slack.com", "github.com")
	a := newAuthority(t, AuthorityOptions{Issuer: issuer})
	mustLeaf(t, a, "slack.com")
	issuer.hang.Store(true)
	waiting := make(chan error, 1)
	go func() { _, err := a.Leaf(context.Background(), "github.com"); waiting <- err }()
	for issuer.calls.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	a.Close()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("a waiting caller got %v", err)
	}
	if _, err := a.Leaf(context.Background(), "github.com"); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	mustLeaf(t, a, "slack.com")
	a.Close()
}

func TestAuthorityMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewPedanticRegistry()
		f, _ := issuerOf(t, newIntermediate(t, newRoot(t, "slack.com"), time.Hour, "slack.com"))
		a := newAuthority(t, AuthorityOptions{Issuer: f, Registerer: reg})
		for range 3 {
			mustLeaf(t, a, "slack.com")
		}
		_, _ = a.Leaf(context.Background(), "evil.com")
		got := map[string]float64{"hit": testutil.ToFloat64(a.metrics.hit), "miss": testutil.ToFloat64(a.metrics.miss), "refused": testutil.ToFloat64(a.metrics.refused)}
		if diff := cmp.Diff(map[string]float64{"hit": 2, "miss": 1, "refused": 1}, got); diff != "" {
			t.Error(diff)
		}
		n, err := testutil.GatherAndCount(reg, "egret_leaf_cache_total", "egret_leaf_mint_seconds", "egret_issuer_expiry_seconds")
		if err != nil || n != 5 {
			t.Errorf("%d series, %v", n, err)
		}
		if s := testutil.ToFloat64(expiryGauge(f)); s < 3590 || s > 3600 {
			t.Errorf("expiry in %v seconds", s)
		}
		time.Sleep(2 * time.Hour)
		if s := testutil.ToFloat64(expiryGauge(f)); s > -3590 {
			t.Errorf("expiry in %v seconds", s)
		}
		if _, err := NewAuthority(AuthorityOptions{Issuer: f, Listed: a.listed, Registerer: reg}); err == nil {
			t.Error("metrics registered twice without an error")
		}
	})
}

func TestLeafHitDoesNotAllocate(t *testing.T) {
	a := newAuthority(t, AuthorityOptions{Issuer: newIssuer(t, "slack.com")})
	ctx := context.Background()
	mustLeaf(t, a, "slack.com")
	if n := testing.AllocsPerRun(1000, func() { _, _ = a.Leaf(ctx, "slack.com") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLeafHit(b *testing.B) {
	a := newAuthority(b, AuthorityOptions{Issuer: newIssuer(b, "slack.com")})
	ctx := context.Background()
	mustLeaf(b, a, "slack.com")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := a.Leaf(ctx, "slack.com"); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkLeafMint(b *testing.B) {
	a := newAuthority(b, AuthorityOptions{Issuer: newIssuer(b, "example.com"), MintRate: 1e9})
	ctx := context.Background()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := a.Leaf(ctx, fmt.Sprintf("h%d.example.com", i)); err != nil {
			b.Fatal(err)
		}
	}
}

// A caller that looked before a flight landed and joins after it must not start another.
func TestLateFlightFindsTheLeaf(t *testing.T) {
	issuer := newIssuer(t, "slack.com")
	a := newAuthority(t, AuthorityOptions{Issuer: issuer})
	first := mustLeaf(t, a, "slack.com")
	r := <-a.fly("slack.com")
	if r.Err != nil || r.Val.(*leaf).cert != first || issuer.calls.Load() != 1 {
		t.Errorf("%v, %d signatures", r.Err, issuer.calls.Load())
	}
}
