// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// twin is a Vault as far as the provider asks one, refusing what the real one refuses:
// integration/vault holds the provider to that. Its clock is that of the bubble.
type twin struct {
	key       *ecdsa.PrivateKey // of JWT-SVIDs
	namespace string
	sealed    bool
	behind    int           // answers 412 so many times
	takes     time.Duration // before a call is looked at

	mu      sync.Mutex
	roles   map[string]role
	kv      map[string]map[string]any // by path; of each the member data
	engine  func() map[string]any     // what a dynamic path makes
	tokens  map[string]*clientToken
	leases  map[string]*twinLease
	wrapped map[string]wrapped
	made    int
	calls   []string
}

type role struct {
	subject, audience string
	ttl, lease, max   time.Duration
	uses              int
	batch, fixed      bool // fixed: neither token nor lease can be renewed
	may               []string
	deny              []string // of the default policy
}

type clientToken struct {
	role  role
	who   string
	ends  time.Time
	batch bool
	uses  int
}

type twinLease struct {
	token     string
	made, end time.Time
	role      role
	revoked   bool
}

type wrapped struct {
	path string
	ends time.Time
	body map[string]any
}

func newTwin(key *ecdsa.PrivateKey) *twin {
	return &twin{
		key: key, roles: map[string]role{}, kv: map[string]map[string]any{}, tokens: map[string]*clientToken{},
		leases: map[string]*twinLease{}, wrapped: map[string]wrapped{},
	}
}

func (v *twin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	time.Sleep(v.delay(r))
	v.mu.Lock()
	defer v.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	v.calls = append(v.calls, r.Method+" "+path)
	var in map[string]any
	_ = json.NewDecoder(r.Body).Decode(&in)
	switch {
	case v.sealed:
		errorsOf(w, 503, "Vault is sealed")
	case v.behind > 0:
		v.behind--
		errorsOf(w, 412, "required index state not present")
	case r.Header.Get("X-Vault-Request") != "true" || r.Header.Get("X-Vault-Namespace") != v.namespace || path == r.URL.Path:
		errorsOf(w, 403, "permission denied")
	case strings.HasPrefix(path, "auth/") && strings.HasSuffix(path, "/login"):
		v.login(w, r, in)
	case path == "sys/wrapping/lookup" || path == "sys/wrapping/unwrap":
		v.unwrap(w, r, in)
	default:
		v.withToken(w, r, path, in)
	}
}

// delay is that of renewals alone.
func (v *twin) delay(r *http.Request) time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !strings.HasSuffix(r.URL.Path, "/renew") {
		return 0
	}
	return v.takes
}

func errorsOf(w http.ResponseWriter, code int, text string) {
	say(w, code, map[string]any{"errors": []string{text + " hush-hush"}})
}

func say(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
	w.WriteHeader(code)
	if body != nil {
		_ = json.NewEncoder(w).Encode(body)
	}
}

func (v *twin) login(w http.ResponseWriter, r *http.Request, in map[string]any) {
	name, _ := in["role"].(string)
	who := ""
	if r.URL.Path == "/v1/auth/cert/login" {
		name, _ = in["name"].(string)
		if c := r.TLS.PeerCertificates; len(c) > 0 && len(c[0].URIs) == 1 {
			who = c[0].URIs[0].String()
		}
	} else {
		text, _ := in["jwt"].(string)
		who = v.verify(text, v.roles[name].audience)
	}
	ro, ok := v.roles[name]
	if !ok || who == "" || who != ro.subject {
		errorsOf(w, 400, "error validating token")
		return
	}
	token := v.next("hvs.")
	t := &clientToken{role: ro, who: who, ends: time.Now().Add(ro.ttl), batch: ro.batch, uses: ro.uses}
	v.tokens[token] = t
	kind := "service"
	if ro.batch {
		kind = "batch"
	}
	say(w, 200, map[string]any{"auth": map[string]any{
		"client_token": token, "accessor": v.next("acc"), "lease_duration": int(ro.ttl / time.Second),
		"renewable": !ro.fixed && !ro.batch, "token_type": kind, "num_uses": ro.uses,
	}})
}

func (v *twin) verify(text, audience string) string {
	tok, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return ""
	}
	var c jwt.Claims
	if tok.Claims(v.key.Public(), &c) != nil || c.Validate(jwt.Expected{AnyAudience: jwt.Audience{audience}, Time: time.Now()}) != nil {
		return ""
	}
	return c.Subject
}

func (v *twin) next(prefix string) string {
	v.made++
	return fmt.Sprintf("%shush-%d", prefix, v.made)
}

// withToken carries out what needs a client token that is alive and may do it.
func (v *twin) withToken(w http.ResponseWriter, r *http.Request, path string, in map[string]any) {
	name := r.Header.Get("X-Vault-Token")
	t := v.tokens[name]
	own := []string{"auth/token/renew-self", "auth/token/revoke-self", "sys/leases/renew"}
	allowed := t != nil && !slices.Contains(t.role.deny, path) && (slices.Contains(own, path) || slices.Contains(t.role.may, path))
	if t == nil || !time.Now().Before(t.ends) || !allowed {
		errorsOf(w, 403, "permission denied")
		return
	}
	switch path {
	case "auth/token/renew-self":
		v.renewSelf(w, t)
	case "auth/token/revoke-self":
		v.revokeSelf(w, name)
	case "sys/leases/renew", "sys/leases/revoke":
		v.leaseCall(w, path, in)
	default:
		v.read(w, r, path, name)
	}
}

func (v *twin) renewSelf(w http.ResponseWriter, t *clientToken) {
	if t.role.fixed || t.batch {
		errorsOf(w, 400, "lease is not renewable")
		return
	}
	t.ends = time.Now().Add(t.role.ttl)
	say(w, 200, map[string]any{"auth": map[string]any{"client_token": "hvs.x", "lease_duration": int(t.role.ttl / time.Second), "renewable": true}})
}

func (v *twin) revokeSelf(w http.ResponseWriter, name string) {
	if v.tokens[name].batch {
		errorsOf(w, 400, "batch tokens cannot be revoked")
		return
	}
	delete(v.tokens, name)
	for _, l := range v.leases {
		l.revoked = l.revoked || l.token == name
	}
	say(w, 204, nil)
}

func (v *twin) leaseCall(w http.ResponseWriter, path string, in map[string]any) {
	id, _ := in["lease_id"].(string)
	l := v.leases[id]
	if l == nil || !v.alive(l) {
		errorsOf(w, 400, "lease not found")
		return
	}
	if path == "sys/leases/revoke" {
		l.revoked = true
		say(w, 204, nil)
		return
	}
	more, _ := in["increment"].(float64)
	if l.role.fixed {
		errorsOf(w, 400, "lease is not renewable")
		return
	}
	l.end = time.Now().Add(time.Duration(more) * time.Second)
	if last := l.made.Add(l.role.max); l.end.After(last) {
		l.end = last
	}
	say(w, 200, map[string]any{"lease_id": id, "renewable": true, "lease_duration": int(time.Until(l.end) / time.Second)})
}

// alive: a lease ends with its token.
func (v *twin) alive(l *twinLease) bool {
	t := v.tokens[l.token]
	return !l.revoked && time.Now().Before(l.end) && t != nil && time.Now().Before(t.ends)
}

func (v *twin) read(w http.ResponseWriter, r *http.Request, path, token string) {
	ro := v.tokens[token].role
	if data, ok := v.kv[path+r.URL.RawQuery]; ok {
		say(w, 200, map[string]any{"data": data, "lease_id": "", "lease_duration": 0})
		return
	}
	if v.engine == nil {
		errorsOf(w, 404, "")
		return
	}
	answer := map[string]any{"data": v.engine(), "lease_id": "", "lease_duration": int(ro.lease / time.Second), "renewable": false}
	if ro.max > 0 {
		id := path + "/" + v.next("")
		v.leases[id] = &twinLease{token: token, made: time.Now(), end: time.Now().Add(ro.lease), role: ro}
		answer["lease_id"], answer["renewable"] = id, !ro.fixed
	}
	say(w, 200, answer)
}

func (v *twin) unwrap(w http.ResponseWriter, r *http.Request, in map[string]any) {
	opening := strings.HasSuffix(r.URL.Path, "unwrap")
	name, _ := in["token"].(string)
	if opening {
		name = r.Header.Get("X-Vault-Token")
	}
	x, ok := v.wrapped[name]
	switch {
	case !ok || !time.Now().Before(x.ends):
		errorsOf(w, 400, "wrapping token is not valid or does not exist")
	case opening:
		delete(v.wrapped, name)
		say(w, 200, x.body)
	default:
		say(w, 200, map[string]any{"data": map[string]any{"creation_path": x.path, "creation_ttl": 300}})
	}
}

// live counts what has not ended.
func (v *twin) live() (tokens, leases int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, t := range v.tokens {
		if time.Now().Before(t.ends) {
			tokens++
		}
	}
	for _, l := range v.leases {
		if v.alive(l) {
			leases++
		}
	}
	return tokens, leases
}

// called returns the calls since the last time.
func (v *twin) called() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := v.calls
	v.calls = nil
	return out
}

func (v *twin) set(change func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	change()
}
