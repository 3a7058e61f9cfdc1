// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/egret-proxy/egret/credential"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ownToken = "egrets-own-token"

// apiServer is kube-apiserver as far as egret's account may use it: list and watch of the
// Secret db of namespace shop by a Role with resourceNames, and create of one token. It
// keeps a history of events, forgets what is compacted, and refuses what the real one does.
type apiServer struct {
	*httptest.Server
	t     testing.TB
	calls struct{ lists, watches, mints, bad atomic.Int32 }

	mu       sync.Mutex
	own      string // the token it accepts
	version  int
	oldest   int // the last version that is compacted away
	present  bool
	data     map[string]string
	history  []change
	news     chan struct{} // closed with each change
	goneHTTP bool          // say 410 as a status, not as an event
	bookmark time.Duration // how often one is sent; 0: never
	life     time.Duration // of a watch; 0: what is asked for
	allowed  bool          // by RBAC
	fault    func(w http.ResponseWriter, r *http.Request) bool
	accounts map[string]bool
	pods     map[string]string // name to UID
	tokenTTL time.Duration     // at most; 0: what is asked for
}

type change struct {
	version int
	kind    string
	object  map[string]any
}

func newAPIServer(t testing.TB) *apiServer {
	a := &apiServer{
		t: t, own: ownToken, version: 100, news: make(chan struct{}), allowed: true, data: map[string]string{},
		accounts: map[string]bool{"robot": true}, pods: map[string]string{"web-0": "uid-1"},
	}
	a.Server = httptest.NewUnstartedServer(a)
	a.EnableHTTP2 = true
	a.Config.ErrorLog = log.New(io.Discard, "", 0) // tests break handshakes on purpose
	a.StartTLS()
	t.Cleanup(func() {
		a.CloseClientConnections()
		a.Close()
	})
	return a
}

func (a *apiServer) set(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

// put makes or changes the Secret; nil deletes it.
func (a *apiServer) put(data map[string]string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	kind := "MODIFIED"
	switch {
	case data == nil:
		kind = "DELETED"
	case !a.present:
		kind = "ADDED"
	}
	if data != nil {
		a.data = data
	}
	a.present = data != nil
	a.tick(kind)
}

// tick makes a new version, of the Secret or (BOOKMARK) of something else.
func (a *apiServer) tick(kind string) {
	a.version++
	a.history = append(a.history, change{a.version, kind, a.object()})
	close(a.news)
	a.news = make(chan struct{})
}

// compact forgets all events.
func (a *apiServer) compact() { a.oldest, a.history = a.version, nil }

func (a *apiServer) object() map[string]any {
	data := map[string]any{}
	for k, v := range a.data {
		data[k] = base64.StdEncoding.EncodeToString([]byte(v))
	}
	return map[string]any{
		"kind": "Secret", "apiVersion": "v1", "type": "Opaque", "data": data,
		"metadata": map[string]any{"name": "db", "namespace": "shop", "resourceVersion": strconv.Itoa(a.version), "uid": "u"},
	}
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	own, fault, allowed := a.own, a.fault, a.allowed
	a.mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	switch q := r.URL.Query(); {
	case r.Header.Get("Authorization") != "Bearer "+own:
		a.fail(w, 401, "Unauthorized")
	case !allowed:
		a.fail(w, 403, "Forbidden")
	case r.URL.Path == "/api/v1/namespaces/shop/serviceaccounts/robot/token" && r.Method == http.MethodPost,
		r.URL.Path == "/api/v1/namespaces/shop/serviceaccounts/nobody/token" && r.Method == http.MethodPost:
		a.mint(w, r)
	case r.URL.Path != "/api/v1/namespaces/shop/secrets" || r.Method != http.MethodGet, q.Get("fieldSelector") != "metadata.name=db":
		a.fail(w, 403, "Forbidden") // resourceNames: neither get nor any other Secret
	case q.Get("watch") == "true":
		a.watch(w, r)
	default:
		a.list(w)
	}
}

// fail answers as the real one does; its message quotes what must not be logged.
func (a *apiServer) fail(w http.ResponseWriter, code int, reason string) {
	a.calls.bad.Add(1)
	reply(w, code, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": "hush " + ownToken})
}

func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}

func (a *apiServer) list(w http.ResponseWriter) {
	a.calls.lists.Add(1)
	a.mu.Lock()
	items := []any{}
	if a.present {
		items = append(items, a.object())
	}
	v := strconv.Itoa(a.version)
	a.mu.Unlock()
	reply(w, 200, map[string]any{"kind": "SecretList", "apiVersion": "v1", "metadata": map[string]any{"resourceVersion": v}, "items": items})
}

func (a *apiServer) watch(w http.ResponseWriter, r *http.Request) {
	a.calls.watches.Add(1)
	from, err := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	seconds, err2 := strconv.Atoi(r.URL.Query().Get("timeoutSeconds"))
	if err != nil || err2 != nil || r.URL.Query().Get("allowWatchBookmarks") != "true" {
		a.fail(w, 500, "InternalError") // so it does
		return
	}
	a.mu.Lock()
	gone, asStatus, life, every := from < a.oldest, a.goneHTTP, a.life, a.bookmark
	a.mu.Unlock()
	if gone && asStatus {
		a.fail(w, 410, "Expired")
		return
	}
	out := &events{w: w, enc: json.NewEncoder(w)}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(200)
	out.flush()
	if gone {
		out.send("ERROR", map[string]any{"kind": "Status", "code": 410, "reason": "Expired", "message": "hush: too old resource version"})
		return
	}
	if life == 0 {
		life = time.Duration(seconds) * time.Second
	}
	a.tell(r, out, from, every, time.After(life))
}

func (a *apiServer) tell(r *http.Request, out *events, from int, every time.Duration, end <-chan time.Time) {
	var tick <-chan time.Time
	if every > 0 {
		t := time.NewTicker(every)
		defer t.Stop()
		tick = t.C
	}
	for {
		a.mu.Lock()
		news, version := a.news, a.version
		pending := slices.Clone(a.history)
		a.mu.Unlock()
		for _, c := range pending {
			if c.version > from && c.kind != "BOOKMARK" {
				out.send(c.kind, c.object)
			}
		}
		from = version
		select {
		case <-news:
		case <-tick:
			out.send("BOOKMARK", map[string]any{"kind": "Secret", "apiVersion": "v1", "metadata": map[string]any{"resourceVersion": strconv.Itoa(from)}})
		case <-end:
			return
		case <-r.Context().Done():
			return
		}
	}
}

type events struct {
	w   http.ResponseWriter
	enc *json.Encoder
}

func (e *events) flush() { _ = http.NewResponseController(e.w).Flush() }

func (e *events) send(kind string, object any) {
	_ = e.enc.Encode(map[string]any{"type": kind, "object": object})
	e.flush()
}

// mint answers a TokenRequest, with the checks of the real one.
func (a *apiServer) mint(w http.ResponseWriter, r *http.Request) {
	a.calls.mints.Add(1)
	b, _ := io.ReadAll(r.Body)
	var q tokenRequest
	if r.Header.Get("Content-Type") != "application/json" || json.Unmarshal(b, &q) != nil || q.Kind != "TokenRequest" || q.APIVersion != "authentication.k8s.io/v1" {
		a.fail(w, 400, "BadRequest")
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	account := strings.Split(r.URL.Path, "/")[6]
	code, err := a.checkRequest(account, &q)
	if err != nil {
		a.fail(w, code, err.Error())
		return
	}
	life := time.Duration(q.Spec.ExpirationSeconds) * time.Second
	if a.tokenTTL > 0 {
		life = min(life, a.tokenTTL)
	}
	now, _ := http.ParseTime(w.Header().Get("Date"))
	if now.IsZero() {
		now = time.Now()
	}
	reply(w, 201, map[string]any{
		"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "metadata": map[string]any{"name": account, "namespace": "shop"},
		"spec": map[string]any{"audiences": q.Spec.Audiences, "expirationSeconds": q.Spec.ExpirationSeconds},
		"status": map[string]any{
			"token":               fmt.Sprintf("hush-%s-%s-%d", account, strings.Join(q.Spec.Audiences, "+"), a.calls.mints.Load()),
			"expirationTimestamp": now.Add(life).UTC().Format(time.RFC3339),
		},
	})
}

func (a *apiServer) checkRequest(account string, q *tokenRequest) (int, error) {
	switch {
	case !a.accounts[account]:
		return 404, errors.New("NotFound")
	case q.Spec.ExpirationSeconds < 600, q.Spec.ExpirationSeconds > 1<<32:
		return 422, errors.New("Invalid")
	case q.Spec.Bound == nil:
		return 0, nil
	case q.Spec.Bound.APIVersion != "v1" || q.Spec.Bound.Kind != "Pod":
		return 400, errors.New("BadRequest")
	case a.pods[q.Spec.Bound.Name] == "":
		return 404, errors.New("NotFound")
	case q.Spec.Bound.UID != "" && q.Spec.Bound.UID != a.pods[q.Spec.Bound.Name]:
		return 409, errors.New("Conflict")
	}
	return 0, nil
}

// cluster reaches a, by a token file that it makes.
func (a *apiServer) cluster() Cluster {
	a.t.Helper()
	file := filepath.Join(a.t.TempDir(), "token")
	write(a.t, file, ownToken+"\n")
	roots := x509.NewCertPool()
	roots.AddCert(a.Certificate())
	return Cluster{Server: a.URL, Roots: roots, TokenFile: file, Timeout: 5 * time.Second}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (a *apiServer) certPEM() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate().Raw}))
}

// secret follows the Secret db with changes to its settings.
func (a *apiServer) secret(change ...func(*SecretConfig)) *Secret {
	a.t.Helper()
	c := SecretConfig{Cluster: a.cluster(), Namespace: "shop", Name: "db", Key: "password"}
	for _, f := range change {
		f(&c)
	}
	s, err := NewSecret(c)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { _ = s.Close() })
	return s
}

func (a *apiServer) minter(change ...func(*TokenConfig)) *Token {
	a.t.Helper()
	c := TokenConfig{Cluster: a.cluster(), Namespace: "shop", ServiceAccount: "robot", Audiences: []string{"https://db.example"}}
	for _, f := range change {
		f(&c)
	}
	k, err := NewToken(c)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { _ = k.Close() })
	return k
}

func get(t testing.TB, p credential.Provider) (string, error) {
	t.Helper()
	tok, err := p.Fetch(t.Context(), credential.Key{}, nil)
	return tok.Values["token"].Reveal(), err
}

func wantKind(t testing.TB, err error, k credential.Kind) *credential.Error {
	t.Helper()
	e, ok := errors.AsType[*credential.Error](err)
	if !ok || e.Kind != k {
		t.Fatalf("err = %v, want %s", err, k)
	}
	if s := e.Error(); strings.Contains(s, "hush") || strings.Contains(s, ownToken) {
		t.Errorf("MUST C9: the error quotes the answer or the token: %v", e)
	}
	return e
}

// await polls, since a follower needs no bell of its own for tests.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// watching waits until a watch is open.
func watching(t testing.TB, s *Secret) {
	t.Helper()
	await(t, "a watch", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.following
	})
}

func changed(t testing.TB, s *Secret, what string) {
	t.Helper()
	select {
	case <-s.Changes():
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: not told", what)
	}
}
