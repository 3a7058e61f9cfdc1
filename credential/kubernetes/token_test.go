// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/credential"
)

func TestMintsWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	a := newAPIServer(t)
	m := a.minter(func(c *TokenConfig) {
		c.Audiences, c.Expiration = []string{"https://b.example", "https://a.example"}, 2*time.Hour
		c.Bound = &Bound{Kind: "Pod", Name: "web-0", UID: "uid-1"}
	})
	tok, err := m.Fetch(t.Context(), credential.Key{}, nil)
	if got := tok.Values["token"].Reveal(); err != nil || got != "hush-robot-https://b.example+https://a.example-1" {
		t.Fatalf("%q, %v", got, err)
	}
	if d := tok.Lifetime; d < 2*time.Hour-2*time.Second || d > 2*time.Hour+2*time.Second {
		t.Errorf("lifetime %s", d)
	}
	a.set(func() { a.tokenTTL = 30 * time.Minute })
	if tok, err = m.Fetch(t.Context(), credential.Key{}, nil); err != nil || tok.Lifetime > 31*time.Minute {
		t.Errorf("the server gives less: %s, %v", tok.Lifetime, err)
	}
}

func TestMintRefusals(t *testing.T) {
	t.Parallel()
	a := newAPIServer(t)
	for name, tc := range map[string]struct {
		change func(*TokenConfig)
		kind   credential.Kind
	}{
		"no such account":  {func(c *TokenConfig) { c.ServiceAccount = "nobody" }, credential.NotMinted},
		"not allowed":      {func(c *TokenConfig) { c.ServiceAccount = "admin" }, credential.Refused},
		"no such pod":      {func(c *TokenConfig) { c.Bound = &Bound{Kind: "Pod", Name: "gone"} }, credential.NotMinted},
		"another pod":      {func(c *TokenConfig) { c.Bound = &Bound{Kind: "Pod", Name: "web-0", UID: "uid-2"} }, credential.NotMinted},
		"not such a kind":  {func(c *TokenConfig) { c.Bound = &Bound{Kind: "Node", Name: "web-0"} }, credential.NotMinted},
		"other's token":    {func(c *TokenConfig) { write(t, c.Cluster.TokenFile, "other") }, credential.Refused},
		"no token":         {func(c *TokenConfig) { write(t, c.Cluster.TokenFile, " \n") }, credential.Unreachable},
		"two lines":        {func(c *TokenConfig) { write(t, c.Cluster.TokenFile, "a\nb") }, credential.Unreachable},
		"no file":          {func(c *TokenConfig) { c.Cluster.TokenFile += "x" }, credential.Unreachable},
		"a file too large": {func(c *TokenConfig) { write(t, c.Cluster.TokenFile, strings.Repeat("x", maxToken+1)) }, credential.Unreachable},
		"a folder":         {func(c *TokenConfig) { c.Cluster.TokenFile = t.TempDir() }, credential.Unreachable},
	} {
		_, err := get(t, a.minter(tc.change))
		if e, ok := err.(*credential.Error); !ok || e.Kind != tc.kind { //nolint:errorlint // the outermost
			t.Errorf("%s: %v, want %s", name, err, tc.kind)
			continue
		}
		wantKind(t, err, tc.kind)
	}
}

// minted is an answer to a TokenRequest.
func minted(spec, status string) string {
	return `{"kind":"TokenRequest","apiVersion":"authentication.k8s.io/v1","spec":` + spec + `,"status":` + status + `}`
}

const (
	goodSpec   = `{"audiences":["https://db.example"]}`
	goodStatus = `{"token":"hush","expirationTimestamp":"2100-01-01T00:00:00Z"}`
)

// TestFaultMatrix holds both providers to the same faults.
func TestFaultMatrix(t *testing.T) {
	t.Parallel()
	const js = "application/json"
	says := func(code int, kind, body string, header ...string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", kind)
			for i := 0; i+1 < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
			return true
		}
	}
	for name, tc := range map[string]struct {
		fault func(http.ResponseWriter, *http.Request) bool
		kind  credential.Kind
		after time.Duration
	}{
		"400":         {says(400, js, `{"message":"hush"}`), credential.NotMinted, 0},
		"401":         {says(401, js, `{"message":"hush"}`), credential.Refused, 0},
		"403":         {says(403, js, `{"message":"hush"}`), credential.Refused, 0},
		"404":         {says(404, "text/plain", `hush`), credential.NotMinted, 0},
		"429":         {says(429, js, `hush`, "Retry-After", "7"), credential.Unreachable, 7 * time.Second},
		"500":         {says(500, js, `hush`), credential.Unreachable, 0},
		"503":         {says(503, js, `hush`, "Retry-After", "1"), credential.Unreachable, time.Second},
		"204":         {says(204, js, ``), credential.NotMinted, 0},
		"redirect":    {says(307, js, `hush`, "Location", "/elsewhere"), credential.NotMinted, 0},
		"malformed":   {says(200, js, `{"kind":"hush`), credential.NotMinted, 0},
		"empty":       {says(200, js, ``), credential.NotMinted, 0},
		"an array":    {says(200, js, `["hush"]`), credential.NotMinted, 0},
		"null":        {says(200, js, `null`), credential.NotMinted, 0},
		"a Status":    {says(200, js, `{"kind":"Status","apiVersion":"v1","message":"hush"}`), credential.NotMinted, 0},
		"huge":        {says(200, js, `{"x":"`+strings.Repeat("x", maxObject)+`"}`), credential.NotMinted, 0},
		"bad base64":  {says(200, js, `{"kind":"SecretList","metadata":{"resourceVersion":"1"},"items":[{"data":{"password":"hush!"}}]}`), credential.NotMinted, 0},
		"no version":  {says(200, js, `{"kind":"SecretList","metadata":{},"items":[]}`), credential.NotMinted, 0},
		"reset":       {func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }, credential.Unreachable, 0},
		"time-out":    {func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }, credential.Unreachable, 0},
		"huge header": {says(200, js, `{}`, "X-A", strings.Repeat("x", 8*maxHeader)), credential.Unreachable, 0},
		"breaks off": {func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"kind":"hush`)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, credential.Unreachable, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPIServer(t)
			a.put(password("hush"))
			a.set(func() { a.fault = tc.fault })
			limit := 10 * time.Second
			if name == "time-out" {
				limit = 500 * time.Millisecond
			}
			s := a.secret(func(c *SecretConfig) { c.Cluster.Timeout = limit })
			m := a.minter(func(c *TokenConfig) { c.Cluster.Timeout = limit })
			for _, p := range []credential.Provider{s, m} {
				_, err := get(t, p)
				if e := wantKind(t, err, tc.kind); e.RetryAfter != tc.after {
					t.Errorf("Retry-After %s, want %s", e.RetryAfter, tc.after)
				}
			}
		})
	}
}

func TestMintedAnswers(t *testing.T) {
	t.Parallel()
	a := newAPIServer(t)
	m := a.minter()
	var body string
	a.set(func() {
		a.fault = func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Date", "Thu, 01 Jan 2099 00:00:00 GMT") // a clock that is far off
			w.WriteHeader(201)
			_, _ = io.WriteString(w, body)
			return true
		}
	})
	for name, b := range map[string]string{
		"no token":          minted(goodSpec, `{"expirationTimestamp":"2100-01-01T00:00:00Z"}`),
		"empty token":       minted(goodSpec, `{"token":""}`),
		"token is a number": minted(goodSpec, `{"token":7}`),
		"no status":         minted(goodSpec, `null`),
		"other audience":    minted(`{"audiences":["https://hush.example"]}`, goodStatus),
		"one more audience": minted(`{"audiences":["https://db.example","https://hush.example"]}`, goodStatus),
		"no audience":       minted(`{}`, goodStatus),
		"other kind":        strings.Replace(minted(goodSpec, goodStatus), "TokenRequest", "TokenReview", 1),
		"other spelling":    strings.Replace(minted(goodSpec, goodStatus), `"token"`, `"Token"`, 1),
	} {
		body = b
		if _, err := get(t, m); err == nil {
			t.Errorf("%s was taken", name)
		} else {
			wantKind(t, err, credential.NotMinted)
		}
	}
	for when, want := range map[string]time.Duration{
		`"2099-01-01T01:00:00Z"`: time.Hour, `"2098-01-01T00:00:00Z"`: time.Nanosecond, `"hush"`: 0, `null`: 0, `7`: 0,
	} {
		body = minted(goodSpec, `{"token":"t","expirationTimestamp":`+when+`}`)
		if tok, err := m.Fetch(t.Context(), credential.Key{}, nil); err != nil || tok.Lifetime != want {
			t.Errorf("MUST C5: expirationTimestamp %s: %s, %v; want %s", when, tok.Lifetime, err, want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	a := newAPIServer(t)
	mint := func(f func(*TokenConfig)) error {
		c := TokenConfig{Cluster: a.cluster(), Namespace: "shop", ServiceAccount: "robot", Audiences: []string{"x"}}
		f(&c)
		_, err := NewToken(c)
		return err
	}
	for want, f := range map[string]func(*TokenConfig){
		`namespace "Shop" must be a name`:          func(c *TokenConfig) { c.Namespace = "Shop" },
		`namespace "../x" must be a name`:          func(c *TokenConfig) { c.Namespace = "../x" },
		`service account "" must have 1 to 253`:    func(c *TokenConfig) { c.ServiceAccount = "" },
		`service account "a/b" must be a name`:     func(c *TokenConfig) { c.ServiceAccount = "a/b" },
		`it would open the API server`:             func(c *TokenConfig) { c.Audiences = nil },
		`audiences ["x" ""] must name`:             func(c *TokenConfig) { c.Audiences = []string{"x", ""} },
		`expiration 9m0s must be between`:          func(c *TokenConfig) { c.Expiration = 9 * time.Minute },
		`expiration 25h0m0s must be between`:       func(c *TokenConfig) { c.Expiration = 25 * time.Hour },
		`kind "Deployment" must be one of`:         func(c *TokenConfig) { c.Bound = &Bound{Kind: "Deployment", Name: "x"} },
		`boundObjectRef.name "" must have`:         func(c *TokenConfig) { c.Bound = &Bound{Kind: "Pod"} },
		`server must be https`:                     func(c *TokenConfig) { c.Cluster.Server = "http://x" },
		`server must be https://host:port`:         func(c *TokenConfig) { c.Cluster.Server = "https://x/y" },
		`token: server must be https://h`:          func(c *TokenConfig) { c.Cluster.Server = "https://x?" },
		`server must hold no user or password`:     func(c *TokenConfig) { c.Cluster.Server = "https://u:hush@x" },
		`server must be a URL`:                     func(c *TokenConfig) { c.Cluster.Server = "https://u:hush@x/%zz" },
		`exactly one of the roots`:                 func(c *TokenConfig) { c.Cluster.Roots = nil },
		`tokenFile "token" must be an absolute pa`: func(c *TokenConfig) { c.Cluster.TokenFile = "token" },
	} {
		if err := mint(f); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for want, f := range map[string]func(*SecretConfig){
		`secret "a/b" must be a name`:         func(c *SecretConfig) { c.Name = "a/b" },
		`namespace "" must have`:              func(c *SecretConfig) { c.Namespace = "" },
		`key "" must have 1 to 253`:           func(c *SecretConfig) { c.Key = "" },
		`usernameKey "a b" must be a key`:     func(c *SecretConfig) { c.UsernameKey = "a b" },
		`exactly one of the roots and a file`: func(c *SecretConfig) { c.Cluster.RootsFile = "/x" },
	} {
		c := SecretConfig{Cluster: a.cluster(), Namespace: "shop", Name: "db", Key: "k"}
		f(&c)
		if _, err := NewSecret(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
