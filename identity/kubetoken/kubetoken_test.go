// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package kubetoken

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"go.uber.org/goleak"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	audience = "egress.example"
	ownToken = "egrets-own-token"
	idForm   = "spiffe://acme.example/ns/{namespace}/sa/{serviceAccount}"
)

// apiServer answers TokenReviews as kube-apiserver does: it authenticates the caller,
// verifies the signature itself, holds the token to the audiences of the request and
// returns those that both have, knows which pods are there, and says so in user.extra.
// It answers 201, and an unknown token is an answer and not an error.
type apiServer struct {
	*httptest.Server
	key   *ecdsa.PrivateKey
	asked atomic.Int32

	mu     sync.Mutex
	pods   map[string]string // UID to node
	status int               // answer this instead
	body   string
	old    bool // a server that knows no audiences
	slow   time.Duration
}

// claims are those of a projected token.
type claims struct {
	jwt.Claims
	Kubernetes map[string]any `json:"kubernetes.io"`
}

func newAPIServer(t *testing.T) *apiServer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &apiServer{key: key, pods: map[string]string{"uid-1": "node-1"}}
	a.Server = httptest.NewTLSServer(a)
	t.Cleanup(a.Close)
	return a
}

func (a *apiServer) token(t *testing.T, ttl time.Duration, change ...func(*claims)) secret.Secret {
	t.Helper()
	now := time.Now()
	c := claims{
		Claims: jwt.Claims{
			Subject: "system:serviceaccount:qa:dashboard", Audience: jwt.Audience{audience},
			IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(ttl)),
		},
		Kubernetes: map[string]any{"pod": map[string]any{"uid": "uid-1"}},
	}
	for _, f := range change {
		f(&c)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: a.key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := jwt.Signed(signer).Claims(c).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return secret.New(s)
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.asked.Add(1)
	a.mu.Lock()
	defer a.mu.Unlock()
	time.Sleep(a.slow)
	switch {
	case r.Header.Get("Authorization") != "Bearer "+ownToken:
		w.WriteHeader(http.StatusUnauthorized)
		return
	case r.Method != http.MethodPost || r.URL.Path != "/apis/authentication.k8s.io/v1/tokenreviews":
		w.WriteHeader(http.StatusNotFound)
		return
	case a.status != 0:
		w.Header().Set("Location", a.URL+"/elsewhere")
		w.WriteHeader(a.status)
		_, _ = io.WriteString(w, a.body)
		return
	}
	var in review
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Kind != "TokenReview" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	in.Status = a.judge(in.Spec)
	in.Spec.Token = "" // it is not returned
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(in)
}

func (a *apiServer) judge(spec reviewSpec) (s reviewStatus) {
	var c claims
	token, err := jwt.ParseSigned(spec.Token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil || token.Claims(&a.key.PublicKey, &c) != nil {
		s.Error = "invalid bearer token"
		return s
	}
	if c.Expiry == nil || time.Now().After(c.Expiry.Time()) {
		s.Error = "service account token has expired"
		return s
	}
	for _, aud := range spec.Audiences {
		if slices.Contains(c.Audience, aud) {
			s.Audiences = append(s.Audiences, aud)
		}
	}
	if a.old {
		s.Audiences = nil
	} else if len(s.Audiences) == 0 {
		s.Error = fmt.Sprintf("token audiences %q is invalid for the target audiences %q", c.Audience, spec.Audiences)
		return s
	}
	s.User.Username = c.Subject
	if pod, ok := c.Kubernetes["pod"].(map[string]any); ok {
		uid, _ := pod["uid"].(string)
		node, there := a.pods[uid]
		if !there {
			s.Error = "service account token has been invalidated: pod not found"
			s.Audiences = nil
			return s
		}
		s.User.Extra = map[string][]string{extraPodUID: {uid}, extraNode: {node}}
	}
	s.Authenticated = true
	return s
}

func (a *apiServer) set(f func(*apiServer)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f(a)
}

func (a *apiServer) client(t *testing.T) *Client {
	t.Helper()
	c, err := NewClient(ClientOptions{Server: a.URL, HTTP: a.Client(), Token: func() (secret.Secret, error) { return secret.New(ownToken), nil }})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (a *apiServer) resolver(t *testing.T, change ...func(*Options)) *Resolver {
	t.Helper()
	o := Options{Client: a.client(t), Audience: audience, ID: idForm}
	for _, f := range change {
		f(&o)
	}
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestResolve(t *testing.T) {
	a := newAPIServer(t)
	r := a.resolver(t, func(o *Options) { o.Node = "node-1" })
	token := a.token(t, time.Hour)
	for range 3 {
		c, err := r.Resolve(t.Context(), identity.Peer{JWT: token})
		if err != nil {
			t.Fatal(err)
		}
		w, err := c.Workload()
		if err != nil || w.ID.String() != "spiffe://acme.example/ns/qa/sa/dashboard" || w.Evidence != identity.EvidenceToken {
			t.Errorf("got %+v, %v", w, err)
		}
		if left := time.Until(w.Expires); left < 59*time.Minute || left > time.Hour {
			t.Errorf("it expires in %v, want the token's hour", left)
		}
		_, _, err1 := c.JWTSVID(t.Context(), "a")
		_, err2 := c.X509SVID(t.Context())
		if !errors.Is(err1, identity.ErrNotHeld) || !errors.Is(err2, identity.ErrNotHeld) {
			t.Errorf("SVIDs: %v, %v", err1, err2)
		}
	}
	if n := a.asked.Load(); n != 1 {
		t.Errorf("asked %d times for one token", n)
	}
}

func TestResolveRefuses(t *testing.T) {
	a := newAPIServer(t)
	stranger := newAPIServer(t)
	without := func(what string) func(*claims) {
		return func(c *claims) {
			switch what {
			case "pod":
				c.Kubernetes = nil
			case "exp":
				c.Expiry = nil
			}
		}
	}
	subject := func(s string) func(*claims) { return func(c *claims) { c.Subject = s } }
	tests := map[string]struct {
		token secret.Secret
		want  error
	}{
		"no token":            {secret.Secret{}, identity.ErrUnknown},
		"not a token":         {secret.New("abc"), identity.ErrInvalid},
		"too long":            {secret.New(strings.Repeat("a", maxToken+1)), identity.ErrInvalid},
		"another cluster's":   {stranger.token(t, time.Hour), identity.ErrInvalid},
		"expired":             {a.token(t, -time.Minute), identity.ErrInvalid},
		"without exp":         {a.token(t, time.Hour, without("exp")), identity.ErrInvalid},
		"for the API server":  {a.token(t, time.Hour, func(c *claims) { c.Audience = jwt.Audience{"https://kubernetes.default.svc"} }), identity.ErrInvalid},
		"bound to no pod":     {a.token(t, time.Hour, without("pod")), identity.ErrInvalid},
		"of a deleted pod":    {a.token(t, time.Hour, func(c *claims) { c.Kubernetes = map[string]any{"pod": map[string]any{"uid": "gone"}} }), identity.ErrInvalid},
		"of a user":           {a.token(t, time.Hour, subject("alice")), identity.ErrInvalid},
		"of a node":           {a.token(t, time.Hour, subject("system:node:node-1")), identity.ErrInvalid},
		"of more than a name": {a.token(t, time.Hour, subject("system:serviceaccount:qa:a/../../b")), identity.ErrInvalid},
		"of too few parts":    {a.token(t, time.Hour, subject("system:serviceaccount:qa")), identity.ErrInvalid},
		"of too many parts":   {a.token(t, time.Hour, subject("system:serviceaccount:qa:a:b")), identity.ErrInvalid},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, err := a.resolver(t).Resolve(t.Context(), identity.Peer{JWT: tt.token})
			if c != nil || !errors.Is(err, tt.want) {
				t.Fatalf("got %v, %v; want %v", c, err, tt.want)
			}
			if s := tt.token.Reveal(); len(s) > 50 && strings.Contains(err.Error(), s[:50]) {
				t.Errorf("the error quotes the token: %v", err)
			}
		})
	}
	t.Run("of another node", func(t *testing.T) {
		r := a.resolver(t, func(o *Options) { o.Node = "node-2" })
		if _, err := r.Resolve(t.Context(), identity.Peer{JWT: a.token(t, time.Hour)}); !errors.Is(err, identity.ErrInvalid) {
			t.Errorf("got %v", err)
		}
	})
}

// TestAudienceIsEchoed: a server that knows no audiences authenticates any token.
func TestAudienceIsEchoed(t *testing.T) {
	a := newAPIServer(t)
	a.set(func(a *apiServer) { a.old = true })
	token := a.token(t, time.Hour, func(c *claims) { c.Audience = jwt.Audience{"https://other.example"} })
	if _, err := a.resolver(t).Resolve(t.Context(), identity.Peer{JWT: token}); !errors.Is(err, identity.ErrWrongAudience) {
		t.Errorf("got %v, want ErrWrongAudience", err)
	}
}

// TestMUST_I11_TheTokenChoosesNothing: whatever a token says of its issuer, the
// configured server is asked.
func TestMUST_I11_TheTokenChoosesNothing(t *testing.T) {
	a, enemy := newAPIServer(t), newAPIServer(t)
	token := enemy.token(t, time.Hour, func(c *claims) { c.Issuer = enemy.URL })
	if _, err := a.resolver(t).Resolve(t.Context(), identity.Peer{JWT: token}); !errors.Is(err, identity.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	if enemy.asked.Load() != 0 || a.asked.Load() != 1 {
		t.Errorf("the token's issuer was asked %d times, ours %d times", enemy.asked.Load(), a.asked.Load())
	}
}

// TestDeletedPod: the token stays well signed, and is worth nothing within the age.
func TestDeletedPod(t *testing.T) {
	a := newAPIServer(t)
	r := a.resolver(t, func(o *Options) { o.Age = 60 * time.Millisecond })
	token := a.token(t, time.Hour)
	c, err := r.Resolve(t.Context(), identity.Peer{JWT: token})
	if err != nil {
		t.Fatal(err)
	}
	for range 20 { // a request every few milliseconds: renewed ahead
		time.Sleep(8 * time.Millisecond)
		if _, err := c.Workload(); err != nil {
			t.Fatal(err)
		}
	}
	if n := a.asked.Load(); n < 3 || n > 10 {
		t.Errorf("asked %d times in 160 ms, with an age of 60 ms", n)
	}
	a.set(func(a *apiServer) { delete(a.pods, "uid-1") })
	deadline := time.Now().Add(5 * time.Second)
	for err == nil && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
		_, err = c.Workload()
	}
	if !errors.Is(err, identity.ErrRevoked) {
		t.Errorf("got %v, want ErrRevoked", err)
	}
	time.Sleep(70 * time.Millisecond)
	if _, err := r.Resolve(t.Context(), identity.Peer{JWT: token}); !errors.Is(err, identity.ErrInvalid) {
		t.Errorf("a new connection: %v, want ErrInvalid", err)
	}
	time.Sleep(20 * time.Millisecond) // a review that is under way
}

// TestAfterAPause: nothing older than the age is believed, also when nobody asked.
func TestAfterAPause(t *testing.T) {
	a := newAPIServer(t)
	r := a.resolver(t, func(o *Options) { o.Age = 20 * time.Millisecond })
	c, err := r.Resolve(t.Context(), identity.Peer{JWT: a.token(t, 3*time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	a.set(func(a *apiServer) { a.status = 500 })
	time.Sleep(30 * time.Millisecond)
	if _, err := c.Workload(); !errors.Is(err, identity.ErrUnavailable) {
		t.Errorf("server down: %v, want ErrUnavailable", err)
	}
	a.set(func(a *apiServer) { a.status = 0 })
	if _, err := c.Workload(); err != nil {
		t.Errorf("server back: %v", err)
	}
	a.set(func(a *apiServer) { a.pods["uid-1"] = ""; a.pods["uid-2"] = "node-1" })
	deadline := time.Now().Add(6 * time.Second)
	for err == nil && time.Now().Before(deadline) {
		time.Sleep(25 * time.Millisecond)
		_, err = c.Workload()
	}
	if !errors.Is(err, identity.ErrExpired) {
		t.Errorf("got %v, want ErrExpired with the token", err)
	}
}

func TestOneReviewForMany(t *testing.T) {
	a := newAPIServer(t)
	a.set(func(a *apiServer) { a.slow = 30 * time.Millisecond })
	r := a.resolver(t)
	token := a.token(t, time.Hour)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := r.Resolve(t.Context(), identity.Peer{JWT: token}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := a.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	// One who leaves takes nobody's answer away.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	other := a.token(t, 2*time.Hour)
	if _, err := r.Resolve(ctx, identity.Peer{JWT: other}); !errors.Is(err, identity.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if _, err := r.Resolve(t.Context(), identity.Peer{JWT: other}); err != nil {
		t.Error(err)
	}
}

func TestServerFaults(t *testing.T) {
	for name, set := range map[string]func(*apiServer){
		"401":          func(a *apiServer) { a.status = 401 },
		"403":          func(a *apiServer) { a.status = 403 },
		"500":          func(a *apiServer) { a.status = 500 },
		"redirect":     func(a *apiServer) { a.status = 307 },
		"no JSON":      func(a *apiServer) { a.status, a.body = 201, "{" },
		"another kind": func(a *apiServer) { a.status, a.body = 201, `{"kind":"Status","apiVersion":"v1"}` },
		"too long":     func(a *apiServer) { a.status, a.body = 201, strings.Repeat(" ", maxAnswer+1) },
	} {
		t.Run(name, func(t *testing.T) {
			a := newAPIServer(t)
			a.set(set)
			r := a.resolver(t)
			for range 2 { // it says nothing about the token, so that it is not remembered
				if _, err := r.Resolve(t.Context(), identity.Peer{JWT: a.token(t, time.Hour)}); !errors.Is(err, identity.ErrUnavailable) {
					t.Errorf("got %v", err)
				}
			}
			if n := a.asked.Load(); n != 2 {
				t.Errorf("asked %d times, want 2 (and no redirect followed)", n)
			}
		})
	}
	a := newAPIServer(t)
	c, err := NewClient(ClientOptions{Server: a.URL, HTTP: a.Client(), Token: func() (secret.Secret, error) { return secret.Secret{}, errors.New("no file") }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Review(t.Context(), a.token(t, time.Hour), audience); !errors.Is(err, identity.ErrUnavailable) || a.asked.Load() != 0 {
		t.Errorf("without our own token: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	a := newAPIServer(t)
	good := Options{Client: a.client(t), Audience: audience, ID: idForm}
	for want, change := range map[string]func(*Options){
		"no client of the API server":          func(o *Options) { o.Client = nil },
		"no audience given":                    func(o *Options) { o.Audience = "" },
		"must be at most 1m0s":                 func(o *Options) { o.Age = 61 * time.Second },
		"must be a SPIFFE ID":                  func(o *Options) { o.ID = "https://acme.example/{namespace}/{serviceAccount}" },
		"once each":                            func(o *Options) { o.ID = "spiffe://acme.example/{namespace}" },
		"as whole segments only":               func(o *Options) { o.ID = "spiffe://acme.example/{namespace}-{serviceAccount}" },
		"must have {namespace} and":            func(o *Options) { o.ID = "spiffe://acme.example/{namespace}/{namespace}/{serviceAccount}" },
		`such as "spiffe://acme.example/ns/{n`: func(o *Options) { o.ID = "spiffe://acme.example/ns//{namespace}/{serviceAccount}" },
	} {
		o := good
		change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	for _, server := range []string{"", "http://api:6443", "https://", "https://api/x", "https://u:p@api", "https://api?x", "://"} {
		if _, err := NewClient(ClientOptions{Server: server, HTTP: a.Client(), Token: func() (secret.Secret, error) { return secret.Secret{}, nil }}); err == nil {
			t.Errorf("server %q is accepted", server)
		}
	}
	if _, err := NewClient(ClientOptions{Server: a.URL}); err == nil {
		t.Error("no HTTP client is accepted")
	}
}

// FuzzReview: no answer makes a token valid but one that says so.
func FuzzReview(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","status":{"authenticated":true,"audiences":["egress.example"],"user":{"username":"system:serviceaccount:qa:a","extra":{"authentication.kubernetes.io/pod-uid":["u"]}}}}`))
	f.Add([]byte(`{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1"}`))
	f.Add([]byte(`{`))
	form, err := parseTemplate(idForm)
	if err != nil {
		f.Fatal(err)
	}
	r := &Resolver{options: Options{Audience: audience}, id: form}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseReview(b)
		if err != nil {
			return
		}
		id, err := r.judge(s)
		if err != nil {
			return
		}
		if !s.Authenticated || !slices.Contains(s.Audiences, audience) || s.PodUID == "" {
			t.Errorf("%s made %s", b, id)
		}
		if parts := strings.Split(id.Path(), "/"); len(parts) != 5 || parts[1] != "ns" || parts[3] != "sa" {
			t.Errorf("%s made %s", b, id)
		}
	})
}
