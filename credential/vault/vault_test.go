// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/credential/issuer/issuertest"
	"github.com/egret-proxy/egret/internal/secret"
)

const kvPath = "secret/data/qa/app"

func version2Of(data map[string]any) map[string]any {
	return map[string]any{"data": data, "metadata": map[string]any{"version": 1}}
}

// stored is a provider of a KV secret that alice may read.
func (w *world) stored(change func(*Config)) *Provider {
	w.t.Helper()
	w.twin.roles["alice"] = role{subject: aliceID, audience: address, ttl: hour, may: []string{kvPath}}
	w.twin.kv[kvPath] = version2Of(map[string]any{"api_key": "kv-hush-new", "port": 8443, "none": nil})
	w.twin.kv[kvPath+"version=3"] = version2Of(map[string]any{"api_key": "kv-hush-3"})
	return w.provider(func(c *Config) {
		c.KV, c.Keys = &KV{Path: "qa/app"}, map[string]string{"token": "api_key"}
		if change != nil {
			change(c)
		}
	})
}

func TestKV(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.stored(nil)
		tok := w.get(p)
		if value(tok) != "kv-hush-new" || tok.Lifetime != 0 || tok.Revoke != nil {
			t.Errorf("%q, %s", value(tok), tok.Lifetime)
		}
		want := []string{"POST auth/jwt/login", "GET " + kvPath, "POST auth/token/revoke-self"}
		if got := w.twin.called(); !slices.Equal(got, want) {
			t.Errorf("calls %q, want %q", got, want)
		}
		w.wantLive(0, 0)
		old := w.get(w.stored(func(c *Config) { c.KV.Version = 3 }))
		if value(old) != "kv-hush-3" {
			t.Errorf("version 3 is %q", value(old))
		}
		port := w.get(w.stored(func(c *Config) { c.Keys = map[string]string{"a": "port", "b": "api_key"} }))
		if port.Values["a"].Reveal() != "8443" || !strings.HasPrefix(port.Fingerprint, "sha256:") {
			t.Errorf("%q, %q", port.Values["a"].Reveal(), port.Fingerprint)
		}
	})
}

func TestLoginByCertificate(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.stored(func(c *Config) { c.Login.Method = Cert })
		if tok := w.get(p); value(tok) != "kv-hush-new" {
			t.Errorf("%q", value(tok))
		}
		_, err := p.Fetch(t.Context(), key(bobID), w.bob)
		wantError(t, err, credential.Refused, "allowed_uri_sans")
		_, err = p.Fetch(t.Context(), key(aliceID), &caller{id: aliceID, key: w.alice.key, nameless: true})
		wantError(t, err, credential.Refused, "no common name")
		_, err = p.Fetch(t.Context(), key(bobID), &caller{err: errors.New("not held")})
		wantError(t, err, credential.Unreachable, "X.509-SVID")
		_, err = p.Fetch(t.Context(), key(bobID), nil)
		wantError(t, err, credential.Unconfigured)
	})
}

func TestMUST_I10_TheJWTSVIDIsForThisVaultAlone(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.stored(nil)
		for _, auds := range [][]string{{address, "https://other.example"}, {"https://other.example"}} {
			_, err := p.Fetch(t.Context(), key(aliceID), &caller{id: aliceID, key: w.alice.key, audience: auds})
			wantError(t, err, credential.NotMinted, "alone")
		}
		_, err := p.Fetch(t.Context(), key(aliceID), nil)
		wantError(t, err, credential.Unconfigured)
		if got := w.twin.called(); len(got) != 0 {
			t.Errorf("Vault was asked: %q", got)
		}
	})
}

func TestMUST_C1_Refusals(t *testing.T) {
	type change func(w *world, c *Config)
	for name, tc := range map[string]struct {
		change change
		kind   credential.Kind
		words  string
	}{
		"another workload":  {func(w *world, _ *Config) { w.alice.id = bobID }, credential.Refused, "bound_subject"},
		"another audience":  {func(_ *world, c *Config) { c.Login.Audience = "https://other.example" }, credential.Refused, "bound_audiences"},
		"another signer":    {func(w *world, _ *Config) { w.alice.key = newKey(w.t) }, credential.Refused, "the method's keys"},
		"no role":           {func(_ *world, c *Config) { c.Login.Role = "gone" }, credential.Refused, `"gone"`},
		"no policy":         {func(_ *world, c *Config) { c.KV = &KV{Path: "other"} }, credential.Refused, "must allow read"},
		"no namespace":      {func(_ *world, c *Config) { c.Namespace = "team" }, credential.Refused, "login"},
		"no secret":         {func(w *world, _ *Config) { delete(w.twin.kv, kvPath) }, credential.NotMinted, "nothing is there"},
		"no key":            {func(_ *world, c *Config) { c.Keys = map[string]string{"token": "other"} }, credential.NotMinted, `no text at key "other"`},
		"null":              {func(_ *world, c *Config) { c.Keys = map[string]string{"token": "none"} }, credential.NotMinted, "no text"},
		"KV version 1":      {func(w *world, _ *Config) { w.twin.kv[kvPath] = map[string]any{"api_key": "hush"} }, credential.NotMinted, "KV version 2"},
		"sealed":            {func(w *world, _ *Config) { w.twin.sealed = true }, credential.Unreachable, "sealed"},
		"behind for long":   {func(w *world, _ *Config) { w.twin.behind = 99 }, credential.Unreachable, "412"},
		"cannot be reached": {func(w *world, _ *Config) { w.pipes.cut = true }, credential.Unreachable, "login"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				p := w.stored(func(c *Config) { tc.change(w, c) })
				tc.change(w, new(Config{KV: &KV{}}))
				_, err := p.Fetch(t.Context(), key(aliceID), w.alice)
				wantError(t, err, tc.kind, tc.words)
				w.twin.set(func() { w.twin.sealed, w.twin.behind = false, 0 })
				w.wantLive(0, 0)
				if strings.Contains(w.log.String(), "hush") {
					t.Errorf("MUST C9: %s", w.log)
				}
			})
		})
	}
}

func TestAStandbyThatIsBehindIsAskedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.stored(nil)
		w.twin.behind = behindTries - 1
		if tok := w.get(p); value(tok) != "kv-hush-new" {
			t.Errorf("%q", value(tok))
		}
	})
}

func TestMUST_H16_TheNamespaceIsTheCredentials(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.twin.namespace = "team/a"
		if tok := w.get(w.stored(func(c *Config) { c.Namespace = "team/a" })); value(tok) != "kv-hush-new" {
			t.Errorf("%q", value(tok))
		}
	})
}

func TestParametersArePosted(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.dynamic(role{ttl: hour, lease: hour, max: hour})
		p := w.provider(func(c *Config) {
			c.Dynamic, c.Keys = &Dynamic{Path: credPath, Parameters: map[string]string{"ttl": "10m"}}, map[string]string{"token": "password"}
		})
		w.get(p)
		if got := w.twin.called(); !slices.Contains(got, "POST "+credPath) {
			t.Errorf("calls %q", got)
		}
	})
}

// The faults, at every place that is asked.
func TestFaultMatrix(t *testing.T) {
	for name, at := range map[string]string{"login": "/v1/auth/jwt/login", "KV": "/v1/" + kvPath} {
		t.Run(name, func(t *testing.T) { matrix(at, "", func(c *Config) { c.KV = &KV{Path: "qa/app"} }).Run(t) })
	}
	t.Run("dynamic", func(t *testing.T) {
		matrix("/v1/"+credPath, "lease_duration", func(c *Config) { c.Dynamic = &Dynamic{Path: credPath} }).Run(t)
	})
}

func matrix(at, lifetime string, source func(*Config)) issuertest.Matrix {
	var who *caller
	m := issuertest.Matrix{At: at, Lifetime: lifetime, Secrets: []string{"hush", "eyJ", "pw-"}}
	m.Twin = func(t *testing.T) http.Handler {
		who.key = newKey(t)
		v := newTwin(who.key)
		// A client token that does not end, so that the lease's lifetime is what is told.
		v.roles["alice"] = role{subject: aliceID, audience: address, ttl: 11 * 365 * day, lease: hour, max: 10 * hour, may: []string{kvPath, credPath}}
		v.kv[kvPath] = version2Of(map[string]any{"password": "kv-hush"})
		v.engine = func() map[string]any { return map[string]any{"password": v.next("pw-")} }
		return v
	}
	m.Provider = func(t *testing.T, s *issuertest.Server) credential.Provider {
		c := Config{Address: address, Login: Login{Method: JWT, Role: "alice"}, Keys: map[string]string{"token": "password"}, Issuer: s.Options()}
		source(&c)
		p, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			for l := range p.book.all { // the twin is gone by the time that they end
				l.mu.Lock()
				l.timer.Stop()
				l.mu.Unlock()
			}
		})
		return p
	}
	who = &caller{id: aliceID}
	m.Subject = who
	return m
}

func TestMUST_T10_ConfigIsStrict(t *testing.T) {
	good := func() Config {
		return Config{
			Address: address, Login: Login{Method: JWT, Role: "r"}, KV: &KV{Path: "a/b"}, Keys: map[string]string{"token": "k"},
		}
	}
	if _, err := New(good()); err != nil {
		t.Fatal(err)
	}
	wrapping := func(c *Config) {
		c.KV, c.Login = nil, Login{}
		c.Unwrap = &Unwrap{Token: func() (secret.Secret, error) { return secret.Secret{}, nil }, CreationPath: "a", State: "s"}
	}
	for want, change := range map[string]func(*Config){
		"address is not a URL":                 func(c *Config) { c.Address = "https://vault.example/%zz" },
		"must be https":                        func(c *Config) { c.Address = "http://vault.example" },
		"no user or password":                  func(c *Config) { c.Address = "https://u:hush@vault.example" },
		"no query":                             func(c *Config) { c.Address += "/?a" },
		"must not end in /v1":                  func(c *Config) { c.Address += "/v1/" },
		"a plain path":                         func(c *Config) { c.Address += "/../x" },
		`namespace "a b"`:                      func(c *Config) { c.Namespace = "a b" },
		"exactly one of":                       func(c *Config) { c.ClientToken = true },
		"exactly one of kv":                    func(c *Config) { c.KV = nil },
		`login.method "x" must be jwt or cert`: func(c *Config) { c.Login.Method = "x" },
		"login.role must be set":               func(c *Config) { c.Login.Role = "" },
		`login.mount "a//b"`:                   func(c *Config) { c.Login.Mount = "a//b" },
		`kv.path "../sys"`:                     func(c *Config) { c.KV.Path = "../sys" },
		`kv.path "a?b"`:                        func(c *Config) { c.KV.Path = "a?b" },
		"kv.version -1":                        func(c *Config) { c.KV.Version = -1 },
		`dynamic.path ""`:                      func(c *Config) { c.KV, c.Dynamic = nil, &Dynamic{} },
		"keys must name":                       func(c *Config) { c.Keys = nil },
		"must not be empty":                    func(c *Config) { c.Keys = map[string]string{"token": ""} },
		"login would be ignored":               func(c *Config) { wrapping(c); c.Login = Login{Method: JWT, Role: "r"} },
		"needs a wrapping token":               func(c *Config) { wrapping(c); c.Unwrap.Token = nil },
		"unwrap.state must name":               func(c *Config) { wrapping(c); c.Unwrap.State = "" },
		`unwrap.creationPath ""`:               func(c *Config) { wrapping(c); c.Unwrap.CreationPath = "" },
	} {
		c := good()
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%v; want %q", err, want)
		}
	}
}

func TestMUST_C9_NothingPrints(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.dynamic(role{ttl: 32 * day, lease: hour, max: 10 * hour})
		tok := w.get(p)
		tok.Revoke = nil // a func is not JSON
		j, _ := json.Marshal(tok)
		l := p.book.newest(key(aliceID))
		out := fmt.Sprintf("%+v %#v %+v %+v %s", tok, tok, l.values, l.ses, j)
		if strings.Contains(out, "hush") || strings.Contains(out, "hvs.") {
			t.Error(out)
		}
	})
}

// A path of configuration reaches Vault as it is, or not at all.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"a/b", "../sys/raw", "a//b", "a%2fb", "a?b", "a#b", "a b", "ä", ".", "a/./b", `a\b`, "\"0", "a;b", "a:b@c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if !plainPath(path) {
			return
		}
		r, err := http.NewRequest(http.MethodGet, address+"/v1/"+path, nil)
		if err != nil || r.URL.Path != "/v1/"+path || r.URL.RawQuery != "" || r.URL.Fragment != "" {
			t.Fatalf("%q: %v, %v", path, r.URL, err)
		}
		if strings.Count(r.URL.EscapedPath(), "/") != strings.Count(path, "/")+2 {
			t.Fatalf("%q has other segments on the wire: %s", path, r.URL)
		}
	})
}

// Whatever Vault says, each value is a text or number that stood there.
func FuzzPick(f *testing.F) {
	f.Add(`{"k":"v"}`)
	f.Add(`{"k":12.5e3}`)
	f.Add(`{"k":null,"K":"v"}`)
	f.Add(`{"k":["v"]}`)
	f.Add(`{"k":-}`)
	f.Fuzz(func(t *testing.T, body string) {
		var o issuer.Object
		if json.Unmarshal([]byte(body), &o) != nil {
			return
		}
		values, err := pick(o, map[string]string{"token": "k"})
		if err != nil {
			wantError(t, err, credential.NotMinted)
			return
		}
		var back any
		if json.Unmarshal(o["k"], &back) != nil {
			t.Fatal("what is not JSON was taken")
		}
		switch back.(type) {
		case string, float64:
		default:
			t.Fatalf("%T was taken", back)
		}
		if values["token"].IsZero() {
			t.Fatal("empty")
		}
	})
}

func TestRefusalHasAKind(t *testing.T) {
	for status, kind := range map[int]credential.Kind{
		307: credential.NotMinted, 400: credential.Refused, 403: credential.Refused, 404: credential.NotMinted, 405: credential.NotMinted,
		412: credential.Unreachable, 429: credential.Unreachable, 472: credential.Unreachable, 473: credential.Unreachable, 500: credential.Unreachable, 503: credential.Unreachable,
	} {
		err := refusal(&issuer.Answer{Status: status, Header: http.Header{"Retry-After": {"7"}}}, "hint")
		if e := new(credential.Error); !errors.As(err, &e) || e.Kind != kind || e.RetryAfter != 7*time.Second {
			t.Errorf("%d: %v", status, err)
		}
	}
}

func TestMUST_T9_RedirectsAreNotFollowed(t *testing.T) {
	for _, f := range issuertest.Faults() {
		if !strings.HasSuffix(f.Name, " elsewhere") {
			continue
		}
		m := matrix("", "", func(c *Config) { c.ClientToken, c.Keys = true, nil })
		s := issuertest.NewServer(t, m.Twin(t))
		p := m.Provider(t, s)
		s.Break(&f)
		_, err := p.Fetch(t.Context(), key(aliceID), m.Subject)
		if wantError(t, err, credential.NotMinted, "active node"); s.Asked() != 1 {
			t.Errorf("%s: %d requests", f.Name, s.Asked())
		}
	}
}
