// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/audit"
	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/policy"
)

// soakFor is how long the soak runs: EGRET_SOAK (a duration), or a few seconds.
func soakFor(t *testing.T) time.Duration {
	if s := os.Getenv("EGRET_SOAK"); s != "" {
		return must(time.ParseDuration(s))(t)
	}
	if testing.Short() {
		return time.Second
	}
	return 3 * time.Second
}

// ownedTokens mints tokens and remembers whose they are.
type ownedTokens struct {
	m     *minter
	mu    sync.Mutex
	owner map[string]spiffeid.ID // by fingerprint
}

func (o *ownedTokens) Fetch(ctx context.Context, k credential.Key, s credential.Subject) (credential.Token, error) {
	if rand.IntN(25) == 0 { // an issuer has bad moments
		return credential.Token{}, &credential.Error{Kind: credential.Unreachable, Err: errors.New("a bad moment")}
	}
	tok, err := o.m.Fetch(ctx, k, s)
	if err == nil {
		o.mu.Lock()
		o.owner[tok.Values["token"].Fingerprint()] = k.ID
		o.mu.Unlock()
	}
	return tok, err
}

func (o *ownedTokens) of(fingerprint string) spiffeid.ID {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.owner[fingerprint]
}

// Everything at once: many callers of two identities, both protocols, uploads, streams,
// WebSockets and callers that leave, while policies, keys and tokens change. No request is
// lost or answered with another's credential, each has its record, and nothing is left.
func TestSoak(t *testing.T) {
	w := newWorld(t, withPolicy(func(s *policy.Set) {
		for _, r := range s.Rules {
			theirs := *r
			theirs.Workload = s.Bindings[1].Workload
			s.Rules = append(s.Rules, &theirs)
		}
	}), func(c *worldConfig) { c.audit = func(o *audit.Options) { o.Queue = 8192 } })
	tokens := &ownedTokens{m: &minter{tokens: w.tokens, lifetime: 10 * time.Second}, owner: map[string]spiffeid.ID{}}
	in := must(credential.NewInjection(credential.InjectionConfig{Header: "Authorization", Value: "Bearer {token}"}))(t)
	w.cache.Install([]credential.Spec{{Name: "echo-token", Generation: "1", Provider: tokens, Inject: []credential.Injection{in}}})

	ctx, cancel := context.WithTimeout(t.Context(), soakFor(t))
	defer cancel()
	var served, refused, left atomic.Int64
	var cuts atomic.Int64 // odd while everything is withdrawn
	var wg sync.WaitGroup
	for i := range 8 {
		id, change := []string{jobID, idleID}[i%2], []func(*http.Transport){func(*http.Transport) {}, http1}[i/2%2]
		wg.Go(func() {
			for ctx.Err() == nil {
				w.soakCaller(ctx, id, change, func(c *http.Client) { soakCall(t, ctx, c, tokens, id, &cuts, &served, &refused, &left) })
			}
		})
	}
	wg.Go(func() { w.soakSockets(ctx) })
	wg.Go(func() { w.soakChanges(ctx, &cuts) })
	wg.Wait()
	if served.Load() == 0 {
		t.Error("nothing was served")
	}
	t.Logf("%d served, %d refused for want of a credential or by policy, %d callers left", served.Load(), refused.Load(), left.Load())
	w.soakOver(served.Load())
}

// svidLife is how long a caller of the soak uses one SVID: like any workload it fetches
// a new one well before the second rotation after it, which revokes it.
const svidLife = 500 * time.Millisecond

// soakCaller makes calls with one SVID for its life.
func (w *world) soakCaller(ctx context.Context, id string, change func(*http.Transport), call func(*http.Client)) {
	c := w.meshClient(w.svid(id, time.Hour))
	change(c.Transport.(*http.Transport))
	defer c.CloseIdleConnections()
	for born := time.Now(); ctx.Err() == nil && time.Since(born) < svidLife; {
		call(c)
	}
}

// soakCall makes one call of a random kind and checks its answer.
func soakCall(t *testing.T, ctx context.Context, c *http.Client, tokens *ownedTokens, id string, cuts, served, refused, left *atomic.Int64) {
	before := cuts.Load()
	size := rand.IntN(200_000)
	method, path, payload := "GET", "/x", io.Reader(nil)
	switch rand.IntN(4) {
	case 0:
		method, payload = "POST", io.LimitReader(zeros{}, int64(size))
	case 1:
		path = "/slow/5ms"
	case 2:
		leaving, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(3000))*time.Microsecond)
		defer cancel()
		ctx, path = leaving, "/slow/2ms"
	}
	r, _ := http.NewRequestWithContext(ctx, method, "https://"+echoHost+path, payload)
	resp, err := c.Do(r)
	if err != nil {
		if ctx.Err() == nil && before%2 == 0 && cuts.Load() == before { // nothing was withdrawn meanwhile
			t.Errorf("%s %s: %v", method, path, err)
		}
		left.Add(1)
		return
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	switch {
	case err != nil:
		left.Add(1)
	case resp.StatusCode == 503 || resp.StatusCode == 403 || resp.StatusCode == 401:
		refused.Add(1)
	case resp.StatusCode != 200:
		t.Errorf("%s %s: %d %s", method, path, resp.StatusCode, text)
	default:
		served.Add(1)
		rep := report(t, string(text))
		if owner := tokens.of(rep.Fingerprint); owner.String() != id {
			t.Errorf("%s was credited as %s", id, owner)
		}
		if payload != nil && rep.BodyBytes != int64(size) {
			t.Errorf("%d of %d bytes arrived", rep.BodyBytes, size)
		}
	}
}

// soakSockets opens WebSockets and tunnels and leaves them, well or badly.
func (w *world) soakSockets(ctx context.Context) {
	c := w.client("sidecar", http1)
	for ctx.Err() == nil {
		ws, _, err := websocket.Dial(ctx, "wss://"+echoHost+"/ws", &websocket.DialOptions{HTTPClient: c})
		if err != nil {
			continue
		}
		_ = ws.Write(ctx, websocket.MessageText, []byte("x"))
		_, _, _ = ws.Read(ctx)
		_ = ws.CloseNow()
		if conn, err := w.dialThrough(ctx, pinHost+":443"); err == nil {
			_ = conn.Close()
		}
	}
	c.CloseIdleConnections()
}

// soakChanges reloads policy, rotates the trust domain's keys and revokes tokens.
func (w *world) soakChanges(ctx context.Context, cuts *atomic.Int64) {
	for i := 0; ctx.Err() == nil; i++ {
		time.Sleep(25 * time.Millisecond)
		switch {
		case i%40 == 39:
			cuts.Add(1)
			w.reload(func(s *policy.Set) { s.Rules = nil })
			w.srv.Recheck()
			w.reload(func(*policy.Set) {})
			cuts.Add(1)
		case i%240 == 30: // every six seconds: what was issued before the last two is revoked
			_ = w.issuer.Rotate()
		case i%100 == 50:
			w.tokens.RevokeAll()
		default:
			w.reload(func(s *policy.Set) { s.Digest = fmt.Sprint(i) })
			w.srv.Recheck()
		}
	}
}

// soakOver checks that nothing is left and that each request has one record.
func (w *world) soakOver(served int64) {
	w.t.Helper()
	w.srv.Close()
	eventually(w.t, "places given back", func() bool { return w.srv.table.count.Load() == 0 && len(w.srv.table.all()) == 0 })
	ids, ok := map[string]int{}, int64(0)
	eventually(w.t, "all records written", func() bool {
		clear(ids)
		ok = 0
		for _, r := range w.allRecords() {
			ids[r.Kind+r.ID]++
			if r.Kind == audit.KindRequest && r.Status == 200 && r.Reason == "" {
				ok++
			}
		}
		return ok >= served
	})
	for id, n := range ids {
		if n != 1 {
			w.t.Errorf("%d records of %s", n, id)
		}
	}
	w.pool.Close()
	runtime.GC()
	eventually(w.t, "goroutines end", func() bool {
		buf := make([]byte, 1<<20)
		return !strings.Contains(string(buf[:runtime.Stack(buf, true)]), "proxy.(*exchange)")
	})
}
