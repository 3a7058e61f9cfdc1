// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package github

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/credential/issuer/issuertest"
	"github.com/egret-proxy/egret/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// appKey is made once: it takes a while.
var appKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func pemOf(kind string, der []byte) secret.Secret {
	return secret.New(string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
}

func pkcs1() secret.Secret { return pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(appKey())) }

func signing(s secret.Secret) *Key { return NewKey(func() (secret.Secret, error) { return s, nil }) }

func newTwin() *twin {
	return &twin{
		key: &appKey().PublicKey, app: "123", tokens: map[string]bool{}, repos: map[string]int64{"widgets": 7, "gadgets": 8, "secrets": 9},
		grants: map[string]string{"contents": "write", "issues": "read", "metadata": "read"},
	}
}

func config(o issuer.Options) Config {
	return Config{
		AppID: "123", InstallationID: 42, Repositories: []string{"widgets"}, Permissions: map[string]string{"contents": "read"},
		Signer: signing(pkcs1()), Issuer: o,
	}
}

func start(t *testing.T, change func(*Config)) (*twin, *issuertest.Server, *Provider) {
	t.Helper()
	g := newTwin()
	s := issuertest.NewServer(t, g)
	c := config(s.Options())
	if change != nil {
		change(&c)
	}
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return g, s, p
}

func get(t *testing.T, p *Provider) credential.Token {
	t.Helper()
	tok, err := p.Fetch(t.Context(), credential.Key{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func wantError(t *testing.T, err error, k credential.Kind, words string) {
	t.Helper()
	e, ok := err.(*credential.Error) //nolint:errorlint // the outermost must be one
	if !ok || e.Kind != k || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "hush") {
		t.Errorf("err = %v (%T), want %s with %q", err, err, k, words)
	}
}

func TestATokenIsNarrowedAndRevoked(t *testing.T) {
	g, _, p := start(t, nil)
	tok := get(t, p)
	value := tok.Values["token"].Reveal()
	if d := tok.Lifetime; d < 59*time.Minute || d > 61*time.Minute {
		t.Errorf("lifetime %s", d)
	}
	if tok.Fingerprint != hashOf(value) {
		t.Errorf("fingerprint %q, want GitHub's hashed_token", tok.Fingerprint)
	}
	if !g.tokens[value] {
		t.Fatal("not GitHub's")
	}
	for range 2 { // the second time GitHub says 401
		if err := tok.Revoke(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if g.tokens[value] {
		t.Error("the token lives")
	}
}

func TestEveryFormOfKey(t *testing.T) {
	pkcs8, err := x509.MarshalPKCS8PrivateKey(appKey())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []secret.Secret{pkcs1(), pemOf("PRIVATE KEY", pkcs8), secret.New("\n# from GitHub\n" + pkcs1().Reveal() + "\n")} {
		_, _, p := start(t, func(c *Config) { c.Signer = signing(s) })
		get(t, p)
	}
}

func TestKeysThatAreNone(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec8, err := x509.MarshalPKCS8PrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	for words, s := range map[string]secret.Secret{
		"must be PEM":                  secret.New("hush"),
		"must be an RSA key":           pemOf("PRIVATE KEY", ec8),
		"is not a whole RSA key":       pemOf("RSA PRIVATE KEY", []byte("hush")),
		"without passphrase":           pemOf("ENCRYPTED PRIVATE KEY", []byte("hush")),
		"must have at least 2048 bits": pemOf("RSA PRIVATE KEY", weakKey(t)),
	} {
		_, s, p := start(t, func(c *Config) { c.Signer = signing(s) })
		_, err := p.Fetch(t.Context(), credential.Key{}, nil)
		if wantError(t, err, credential.NotMinted, words); s.Asked() != 0 {
			t.Error("GitHub was asked")
		}
	}
	_, _, p := start(t, func(c *Config) {
		c.Signer = NewKey(func() (secret.Secret, error) { return secret.Secret{}, errors.New("file is gone") })
	})
	_, err = p.Fetch(t.Context(), credential.Key{}, nil)
	wantError(t, err, credential.Unreachable, "file is gone")
}

func weakKey(t *testing.T) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	return x509.MarshalPKCS1PrivateKey(key)
}

// elsewhere is a Signer that holds no key, as a key service is.
type elsewhere struct{ err error }

func (e elsewhere) Sign(_ context.Context, message []byte) ([]byte, error) {
	if e.err != nil {
		return nil, e.err
	}
	return signing(pkcs1()).Sign(context.Background(), message)
}

func TestTheKeyMayLiveElsewhere(t *testing.T) {
	_, _, p := start(t, func(c *Config) { c.Signer = elsewhere{} })
	get(t, p)
	_, _, p = start(t, func(c *Config) { c.Signer = elsewhere{fail(credential.Unreachable, "the key service is away")} })
	_, err := p.Fetch(t.Context(), credential.Key{}, nil)
	wantError(t, err, credential.Unreachable, "key service")
}

func TestAnotherAppOrInstallation(t *testing.T) {
	for words, tc := range map[string]struct {
		kind   credential.Kind
		change func(*Config)
	}{
		"look at appID":              {credential.Refused, func(c *Config) { c.AppID = "124" }},
		"no such installation":       {credential.NotMinted, func(c *Config) { c.InstallationID = 43 }},
		"all the permissions and":    {credential.Refused, func(c *Config) { c.Permissions = map[string]string{"issues": "write"} }},
		"permissions and repositori": {credential.Refused, func(c *Config) { c.Repositories = []string{"widgets", "gone"} }},
	} {
		g, _, p := start(t, tc.change)
		_, err := p.Fetch(t.Context(), credential.Key{}, nil)
		if wantError(t, err, tc.kind, words); g.alive() != 0 {
			t.Errorf("%s: a token was made", words)
		}
	}
}

// What comes back must not be good for more than was asked, and is ended where it is.
func TestATokenThatIsWider(t *testing.T) {
	for name, spoil := range map[string]func(map[string]any){
		"another permission":       func(o map[string]any) { o["permissions"] = map[string]string{"contents": "read", "issues": "read"} },
		"a higher one":             func(o map[string]any) { o["permissions"] = map[string]string{"contents": "write"} },
		"metadata to write":        func(o map[string]any) { o["permissions"] = map[string]string{"contents": "read", "metadata": "write"} },
		"an unknown level":         func(o map[string]any) { o["permissions"] = map[string]string{"contents": "hush"} },
		"permissions not told":     func(o map[string]any) { delete(o, "permissions") },
		"all repositories":         func(o map[string]any) { o["repository_selection"] = "all" },
		"selection not told":       func(o map[string]any) { delete(o, "repository_selection") },
		"another repository":       func(o map[string]any) { o["repositories"] = []map[string]any{{"id": 9, "name": "secrets"}} },
		"repositories not a list":  func(o map[string]any) { o["repositories"] = "hush" },
		"a token of 5 KiB":         func(o map[string]any) { o["token"] = strings.Repeat("x", 5<<10) },
		"a token that is a number": func(o map[string]any) { o["token"] = 7 },
	} {
		t.Run(name, func(t *testing.T) {
			g, _, p := start(t, nil)
			g.spoil = spoil
			_, err := p.Fetch(t.Context(), credential.Key{}, nil)
			wantError(t, err, credential.NotMinted, "")
			if left := g.alive(); left != 0 && !strings.HasPrefix(name, "a token") {
				t.Errorf("%d tokens are left alive", left)
			}
		})
	}
}

func TestLessThanWasAskedIsFine(t *testing.T) {
	g, _, p := start(t, func(c *Config) { c.Permissions = map[string]string{"contents": "write"} })
	g.spoil = func(o map[string]any) { o["permissions"] = map[string]string{"contents": "read"} }
	get(t, p)
	g, _, p = start(t, func(c *Config) { c.Repositories, c.RepositoryIDs = []string{"Widgets"}, nil })
	g.repos["Widgets"] = 7
	g.spoil = func(o map[string]any) { o["repositories"] = []map[string]any{{"id": 7, "name": "widgets"}} }
	get(t, p)
	_, _, p = start(t, func(c *Config) { c.Repositories, c.RepositoryIDs = nil, []int64{8, 9} })
	get(t, p)
	_, _, p = start(t, func(c *Config) { c.Repositories = nil })
	get(t, p)
}

// GitHub describes each repository at length: the answer for 500 is larger than others'.
func TestFiveHundredRepositories(t *testing.T) {
	var names []string
	g, _, p := start(t, func(c *Config) {
		for i := range MaxRepositories {
			names = append(names, fmt.Sprintf("r%d", i))
		}
		c.Repositories = names
	})
	for i, name := range names {
		g.repos[name] = int64(100 + i)
	}
	get(t, p)
	c := config(issuer.Options{})
	c.Repositories, c.RepositoryIDs = names, []int64{1}
	if _, err := New(c); err == nil || !strings.Contains(err.Error(), "at most 500") {
		t.Errorf("501: %v", err)
	}
}

func TestMUST_C10_TokensOfAnyLength(t *testing.T) {
	g, _, p := start(t, nil)
	for _, n := range []int{0, 40, 520, 4096} {
		g.set(func() { g.length = n })
		if tok := get(t, p); len(tok.Values["token"].Reveal()) < n {
			t.Errorf("length %d", n)
		}
	}
}

// A clock that is wrong by more than GitHub takes: its own is learnt from the refusal.
func TestClocksThatDiffer(t *testing.T) {
	for _, ahead := range []time.Duration{0, 50 * time.Second, -50 * time.Second, 10 * time.Minute, -10 * time.Minute, 5 * time.Hour} {
		g, s, p := start(t, nil)
		g.ahead = ahead
		tok := get(t, p)
		if d := tok.Lifetime; d < 59*time.Minute || d > 61*time.Minute {
			t.Errorf("ahead %s: lifetime %s", ahead, d)
		}
		before := s.Asked()
		if get(t, p); s.Asked() != before+1 {
			t.Errorf("ahead %s: it was not learnt", ahead)
		}
		g.set(func() { g.ahead = 0 }) // set right
		get(t, p)
	}
}

func TestRateLimits(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	reset := fmt.Sprint(now.Add(7 * time.Minute).Unix())
	date := now.Format(http.TimeFormat)
	for name, tc := range map[string]struct {
		status int
		header []string
		text   string
		kind   credential.Kind
		after  time.Duration
	}{
		"429 retry-after":         {429, []string{"Retry-After", "60"}, "", credential.Unreachable, time.Minute},
		"403 retry-after":         {403, []string{"Retry-After", "90"}, "", credential.Unreachable, 90 * time.Second},
		"403 primary":             {403, []string{"X-Ratelimit-Remaining", "0", "X-Ratelimit-Reset", reset, "Date", date}, "", credential.Unreachable, 7 * time.Minute},
		"429 primary":             {429, []string{"X-Ratelimit-Remaining", "0", "X-Ratelimit-Reset", reset, "Date", date}, "", credential.Unreachable, 7 * time.Minute},
		"403 secondary, no time":  {403, nil, "You have exceeded a secondary rate limit.", credential.Unreachable, time.Minute},
		"403 with some left":      {403, []string{"X-Ratelimit-Remaining", "4999", "X-Ratelimit-Reset", reset}, "", credential.Refused, 0},
		"403 reset that is over":  {403, []string{"X-Ratelimit-Remaining", "0", "X-Ratelimit-Reset", "1", "Date", date}, "", credential.Unreachable, 0},
		"403 reset that is no no": {403, []string{"X-Ratelimit-Remaining", "0", "X-Ratelimit-Reset", "x"}, "", credential.Unreachable, time.Minute},
		"403 suspended":           {403, nil, "This installation has been suspended", credential.Refused, 0},
	} {
		a := &issuer.Answer{Status: tc.status, Header: http.Header{"Content-Type": {"application/json"}}}
		for i := 0; i < len(tc.header); i += 2 {
			a.Header.Set(tc.header[i], tc.header[i+1])
		}
		a.Body, _ = json.Marshal(map[string]string{"message": tc.text})
		e := new(credential.Error)
		if err := refusal(a); !errors.As(err, &e) || e.Kind != tc.kind || e.RetryAfter != tc.after {
			t.Errorf("%s: %v, %s", name, err, e.RetryAfter)
		}
	}
}

func TestFaultMatrix(t *testing.T) {
	issuertest.Matrix{
		Twin: func(*testing.T) http.Handler { return newTwin() },
		Provider: func(t *testing.T, s *issuertest.Server) credential.Provider {
			p, err := New(config(s.Options()))
			if err != nil {
				t.Fatal(err)
			}
			return p
		},
		Secrets: []string{"ghs_", "eyJ", "PRIVATE"},
	}.Run(t)
}

// The lifetime is a time, which may be missing or odd too.
func TestMUST_C5_ExpiresAt(t *testing.T) {
	for raw, want := range map[string]func(time.Duration) bool{
		"":                     func(d time.Duration) bool { return d == 0 },
		"soon":                 func(d time.Duration) bool { return d == 0 },
		"2006-01-02T15:04:05Z": func(d time.Duration) bool { return d == 1 },
		"9999-01-02T15:04:05Z": func(d time.Duration) bool { return d > 30*24*time.Hour }, // the Cache does not believe it
	} {
		g, _, p := start(t, nil)
		g.spoil = func(o map[string]any) { o["expires_at"] = raw }
		if tok := get(t, p); !want(tok.Lifetime) {
			t.Errorf("%q: %s", raw, tok.Lifetime)
		}
	}
}

func TestEnterpriseServer(t *testing.T) {
	g := newTwin()
	s := issuertest.NewServer(t, http.StripPrefix("/api/v3", g))
	c := config(s.Options())
	c.BaseURL = "https://github.acme.example/api/v3/"
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	tok := get(t, p)
	if err := tok.Revoke(t.Context()); err != nil || g.alive() != 0 {
		t.Errorf("%v, %d alive", err, g.alive())
	}
}

func TestMUST_T10_ConfigIsStrict(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"baseURL is not a URL":     func(c *Config) { c.BaseURL = "https://h/%zz" },
		"must be https":            func(c *Config) { c.BaseURL = "http://h" },
		"no user or password":      func(c *Config) { c.BaseURL = "https://u:hush@h" },
		"no query":                 func(c *Config) { c.BaseURL = "https://h/?a" },
		"appID must be set":        func(c *Config) { c.AppID = "" },
		"installationID 0":         func(c *Config) { c.InstallationID = 0 },
		"a private key is needed":  func(c *Config) { c.Signer = nil },
		"permissions must be set":  func(c *Config) { c.Permissions = nil },
		`permission contents: "x"`: func(c *Config) { c.Permissions = map[string]string{"contents": "x"} },
		`permission contents: ""`:  func(c *Config) { c.Permissions = map[string]string{"contents": ""} },
	} {
		c := config(issuer.Options{})
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%v; want %q", err, want)
		}
	}
}

func TestRevokeErrors(t *testing.T) {
	g, s, p := start(t, nil)
	tok := get(t, p)
	f := issuertest.Faults()
	for i := range f {
		if f[i].Name == "503 with Retry-After" {
			s.Break(&f[i])
		}
	}
	wantError(t, tok.Revoke(t.Context()), credential.Unreachable, "revoking")
	if g.alive() != 1 {
		t.Error("it is said to live")
	}
}

// One Credential: Bearer at the API, Basic for git (MUST C9: neither prints).
func TestBothWaysToSendIt(t *testing.T) {
	_, _, p := start(t, nil)
	tok := get(t, p)
	var inject []credential.Injection
	for _, c := range []credential.InjectionConfig{
		{Header: "Authorization", Value: "Bearer {token}", Hosts: []string{"api.github.com"}}, {Basic: "x-access-token", Hosts: []string{"github.com"}},
	} {
		in, err := credential.NewInjection(c)
		if err != nil {
			t.Fatal(err)
		}
		inject = append(inject, in)
	}
	live, err := credential.New(tok, inject, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	value := tok.Values["token"].Reveal()
	for url, want := range map[string]string{
		"https://api.github.com/repos":             "Bearer " + value,
		"https://github.com/a/widgets.git/git-upl": "Basic " + base64.StdEncoding.EncodeToString([]byte("x-access-token:"+value)),
	} {
		r, _ := http.NewRequest(http.MethodGet, url, nil)
		if err := live.Apply(r); err != nil || r.Header.Get("Authorization") != want {
			t.Errorf("%s: %v, %v", url, err, r.Header)
		}
	}
	tok.Revoke = nil
	if text := fmt.Sprintf("%+v %#v %v", tok, tok, live); strings.Contains(text, "ghs_") {
		t.Error(text)
	}
}

// Whatever GitHub says, a token that is taken is not wider than what was asked.
func FuzzNarrow(f *testing.F) {
	f.Add(`{"permissions":{"contents":"read","metadata":"read"},"repository_selection":"selected","repositories":[{"id":7,"name":"widgets"}]}`)
	f.Add(`{"permissions":{"contents":"admin"},"repository_selection":"all"}`)
	f.Add(`{"permissions":{"Contents":"read"},"repository_selection":"selected","repositories":null}`)
	f.Add(`{"permissions":{"metadata":"write"}}`)
	c := &Config{Repositories: []string{"widgets"}, Permissions: map[string]string{"contents": "read"}}
	f.Fuzz(func(t *testing.T, body string) {
		var o issuer.Object
		if json.Unmarshal([]byte(body), &o) != nil || c.narrow(o) != nil {
			return
		}
		for name := range o.Object("permissions") {
			if level := o.Object("permissions").Text(name); level != "read" || name != "contents" && name != "metadata" {
				t.Fatalf("%q: %q is wider", name, level)
			}
		}
		if o.Text("repository_selection") != "selected" {
			t.Fatal("of all repositories")
		}
	})
}

func TestMUST_T9_RedirectsAreNotFollowed(t *testing.T) {
	for _, f := range issuertest.Faults() {
		if !strings.HasSuffix(f.Name, " elsewhere") {
			continue
		}
		_, s, p := start(t, nil)
		s.Break(&f)
		_, err := p.Fetch(t.Context(), credential.Key{}, nil)
		if wantError(t, err, credential.NotMinted, "redirects are not followed"); s.Asked() != 1 {
			t.Errorf("%s: %d requests", f.Name, s.Asked())
		}
	}
}
