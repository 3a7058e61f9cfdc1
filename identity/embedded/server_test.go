// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// serve serves the issuer on a new socket for the life of the test.
func serve(t *testing.T, i *Issuer, list ...Entry) (address string) {
	t.Helper()
	s, err := i.Listen(filepath.Join(t.TempDir(), "api", "s"), list...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s.Address()
}

// client is go-spiffe's own.
func client(t *testing.T, address string) *workloadapi.Client {
	t.Helper()
	c, err := workloadapi.New(t.Context(), workloadapi.WithAddr(address))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestWorkloadAPI(t *testing.T) {
	i := newIssuer(t, Options{})
	c := client(t, serve(t, i, Entry{ID: app, Hint: "main"}))
	ctx := t.Context()

	x, err := c.FetchX509Context(ctx)
	if err != nil || len(x.SVIDs) != 1 || x.SVIDs[0].ID != app || x.SVIDs[0].Hint != "main" {
		t.Fatalf("X.509 context = %+v, %v", x, err)
	}
	if _, _, err := x509svid.Verify(x.SVIDs[0].Certificates, x.Bundles); err != nil {
		t.Errorf("its own bundle does not verify the SVID: %v", err)
	}
	bundles, err := c.FetchX509Bundles(ctx)
	if want, _ := i.Bundles().GetX509BundleForTrustDomain(i.TrustDomain()); err != nil || !bundles.Bundles()[0].Equal(want) {
		t.Errorf("X.509 bundles = %v, %v", bundles, err)
	}

	j, err := c.FetchJWTSVID(ctx, jwtsvid.Params{Audience: "egret", Subject: app})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := c.FetchJWTBundles(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := jwtsvid.ParseAndValidate(j.Marshal(), keys, []string{"egret"}); err != nil {
		t.Error(err)
	}
	if v, err := c.ValidateJWTSVID(ctx, j.Marshal(), "egret"); err != nil || v.ID != app {
		t.Errorf("validate = %v, %v", v, err)
	}
	if _, err := c.ValidateJWTSVID(ctx, j.Marshal(), "other"); status.Code(err) != codes.InvalidArgument {
		t.Errorf("validate for another audience: %v", err)
	}
}

// TestSocketsAreSeparate: as sockets mounted into two pods.
func TestSocketsAreSeparate(t *testing.T) {
	i := newIssuer(t, Options{})
	other := spiffeid.RequireFromString("spiffe://laptop.example/other")
	a, b := client(t, serve(t, i, Entry{ID: app})), client(t, serve(t, i, Entry{ID: other}, Entry{ID: app}))
	for c, want := range map[*workloadapi.Client][]string{a: {app.String()}, b: {other.String(), app.String()}} {
		svids, err := c.FetchX509SVIDs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range svids {
			got = append(got, s.ID.String())
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	if _, err := a.FetchJWTSVID(t.Context(), jwtsvid.Params{Audience: "x", Subject: other}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("another socket's identity: %v", err)
	}
	if all, err := b.FetchJWTSVIDs(t.Context(), jwtsvid.Params{Audience: "x"}); err != nil || len(all) != 2 {
		t.Errorf("all identities: %v, %v", all, err)
	}
}

func TestEveryCallIsDeniedWithoutAnEntry(t *testing.T) {
	i := newIssuer(t, Options{})
	stranger := uint32(os.Geteuid()) + 1
	for name, list := range map[string][]Entry{"none": nil, "of another user": {{ID: app, UIDs: []uint32{stranger}}}} {
		t.Run(name, func(t *testing.T) {
			c := client(t, serve(t, i, list...))
			ctx := t.Context()
			_, err1 := c.FetchX509SVID(ctx)
			_, err2 := c.FetchX509Bundles(ctx)
			_, err3 := c.FetchJWTSVID(ctx, jwtsvid.Params{Audience: "a"})
			_, err4 := c.FetchJWTBundles(ctx)
			_, err5 := c.ValidateJWTSVID(ctx, "token", "a")
			for n, err := range []error{err1, err2, err3, err4, err5} {
				if status.Code(err) != codes.PermissionDenied {
					t.Errorf("call %d: %v, want PermissionDenied", n+1, err)
				}
			}
		})
	}
}

// TestSecurityHeader speaks raw gRPC, since go-spiffe always sends the header.
func TestSecurityHeader(t *testing.T) {
	conn, err := grpc.NewClient(serve(t, newIssuer(t, Options{}), Entry{ID: app}), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	api := workload.NewSpiffeWorkloadAPIClient(conn)
	tests := []struct {
		name string
		md   metadata.MD
		want codes.Code
	}{
		{"missing", nil, codes.InvalidArgument},
		{"false", metadata.Pairs(securityHeader, "false"), codes.InvalidArgument},
		{"twice", metadata.Pairs(securityHeader, "true", securityHeader, "true"), codes.InvalidArgument},
		{"right", metadata.Pairs(securityHeader, "true"), codes.OK},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx := metadata.NewOutgoingContext(t.Context(), tt.md)
			_, err := api.FetchJWTSVID(ctx, &workload.JWTSVIDRequest{Audience: []string{"a"}})
			if status.Code(err) != tt.want {
				t.Errorf("unary: %v, want %v", err, tt.want)
			}
			stream, err := api.FetchX509SVID(ctx, &workload.X509SVIDRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := stream.Recv(); status.Code(err) != tt.want {
				t.Errorf("stream: %v, want %v", err, tt.want)
			}
		})
	}
}

func TestBadRequests(t *testing.T) {
	c := client(t, serve(t, newIssuer(t, Options{}), Entry{ID: app}))
	ctx := t.Context()
	_, err1 := c.FetchJWTSVID(ctx, jwtsvid.Params{})
	_, err2 := c.ValidateJWTSVID(ctx, "", "a")
	_, err3 := c.ValidateJWTSVID(ctx, "no.token.atall", "a")
	_, err4 := c.FetchWITSVID(ctx, "")
	for n, err := range []error{err1, err2, err3} {
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("call %d: %v, want InvalidArgument", n+1, err)
		}
	}
	if status.Code(err4) != codes.Unimplemented {
		t.Errorf("WIT-SVID: %v, want Unimplemented", err4)
	}
}

// watcher passes on what go-spiffe's watch tells it.
type watcher struct {
	updates chan *workloadapi.X509Context
	errors  chan error
}

func (w watcher) OnX509ContextUpdate(c *workloadapi.X509Context) { w.updates <- c }
func (w watcher) OnX509ContextWatchError(err error)              { w.errors <- err }

func watch(t *testing.T, c *workloadapi.Client) watcher {
	t.Helper()
	w := watcher{make(chan *workloadapi.X509Context, 16), make(chan error, 16)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.WatchX509Context(ctx, w) }()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

func next[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(5 * time.Second):
		t.Fatal("nothing came within 5 s")
		panic("unreachable")
	}
}

func TestStreamFollowsRotation(t *testing.T) {
	i := newIssuer(t, Options{})
	w := watch(t, client(t, serve(t, i, Entry{ID: app})))
	first := next(t, w.updates)
	if err := i.Rotate(); err != nil {
		t.Fatal(err)
	}
	second := next(t, w.updates)
	if n := len(second.Bundles.Bundles()[0].X509Authorities()); n != 2 {
		t.Errorf("%d CAs in the bundle, want 2 that overlap", n)
	}
	if _, _, err := x509svid.Verify(second.SVIDs[0].Certificates, first.Bundles); err == nil {
		t.Error("the SVID was not renewed with the new CA")
	}
}

func TestStreamRenewsAtHalfLife(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, Options{X509TTL: 3 * time.Second})
	w := watch(t, client(t, serve(t, i, Entry{ID: app})))
	first, second := next(t, w.updates).SVIDs[0].Certificates[0], next(t, w.updates).SVIDs[0].Certificates[0]
	if first.Equal(second) || !time.Now().Before(first.NotAfter) {
		t.Errorf("not renewed ahead: first ends %v, it is %v", first.NotAfter, time.Now())
	}
}

func TestRemoveEntryEndsTheStream(t *testing.T) {
	i := newIssuer(t, Options{})
	w := watch(t, client(t, serve(t, i, Entry{ID: app})))
	next(t, w.updates)
	if !i.RemoveEntry(app) || i.RemoveEntry(app) {
		t.Error("RemoveEntry does not say whether there was one")
	}
	if err := next(t, w.errors); status.Code(err) != codes.PermissionDenied {
		t.Errorf("the stream ended with %v, want PermissionDenied", err)
	}
}

func TestListen(t *testing.T) {
	i := newIssuer(t, Options{})
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "private", "file")
	if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	live := strings.TrimPrefix(serve(t, i, Entry{ID: app}), "unix://")
	tests := []struct{ name, path, want string }{
		{"open folder", filepath.Join(open, "s"), "others could reach the socket; use a folder of its own with mode 0700"},
		{"not a socket", file, "is there and is not a socket; remove it or choose another path"},
		{"in use", live, "is in use by another process; choose another path"},
		{"too long", filepath.Join(dir, strings.Repeat("x", 120)), "the system allows 103; choose a shorter folder"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := i.Listen(tt.path, Entry{ID: app})
			if err == nil || !strings.HasPrefix(err.Error(), "embedded issuer: workload API socket: ") || !strings.HasSuffix(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant …%s", err, tt.want)
			}
		})
	}
	if _, err := i.Listen(filepath.Join(dir, "p", "s"), Entry{}); err == nil {
		t.Error("an entry without an ID was accepted")
	}
}

func TestSocketModesAndStaleSocket(t *testing.T) {
	i := newIssuer(t, Options{})
	path := filepath.Join(t.TempDir(), "api", "s")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false) // as a process that was killed
	_ = dead.Close()

	ctx, cancel := context.WithCancel(t.Context())
	s, err := i.Listen(path, Entry{ID: app})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{path: 0o600 | os.ModeSocket, filepath.Dir(path): 0o700 | os.ModeDir} {
		if info, err := os.Stat(name); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v; want %v", name, info.Mode(), err, want)
		}
	}
	cancel()
	if err := s.Serve(ctx); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is left behind: %v", err)
	}
	if err := i.Serve(ctx, path, Entry{ID: app}); err != nil { // and again at once
		t.Error(err)
	}
}
