// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package github

import (
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// twin is GitHub as far as an App asks it: it verifies the JWT, its bounds by its own
// clock, and what is asked against the installation, as GitHub's documentation says.
type twin struct {
	key    *rsa.PublicKey
	app    string
	ahead  time.Duration // of its clock
	repos  map[string]int64
	grants map[string]string // of the installation
	length int               // of tokens
	spoil  func(map[string]any)

	mu     sync.Mutex
	tokens map[string]bool // false: revoked
	made   int
	calls  []string
}

func (g *twin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls = append(g.calls, r.Method+" "+r.URL.Path)
	if w.Header().Get("Date") == "" {
		w.Header().Set("Date", time.Now().Add(g.ahead).UTC().Format(http.TimeFormat))
	}
	bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case !ok || r.Header.Get("User-Agent") == "" || r.Header.Get("X-Github-Api-Version") == "":
		message(w, 403, "Request forbidden by administrative rules")
	case r.Method == http.MethodDelete && r.URL.Path == "/installation/token":
		if !g.tokens[bearer] {
			message(w, 401, "Bad credentials")
			return
		}
		g.tokens[bearer] = false
		w.WriteHeader(204)
	case r.Method != http.MethodPost || r.URL.Path != "/app/installations/42/access_tokens":
		message(w, 404, "Not Found")
	default:
		g.mint(w, r, bearer)
	}
}

func message(w http.ResponseWriter, status int, text string) {
	say(w, status, map[string]any{"message": text + " hush-hush", "documentation_url": "https://docs.github.com/rest", "status": strconv.Itoa(status)})
}

func say(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// verify returns why GitHub does not take a JWT.
func (g *twin) verify(text string) string {
	tok, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return "A JSON web token could not be decoded"
	}
	var c jwt.Claims
	if err := tok.Claims(g.key, &c); err != nil || c.Issuer != g.app || c.Expiry == nil || c.IssuedAt == nil {
		return "A JSON web token could not be decoded"
	}
	now := time.Now().Add(g.ahead)
	switch {
	case c.IssuedAt.Time().After(now):
		return "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued"
	case !c.Expiry.Time().After(now):
		return "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires"
	case c.Expiry.Time().After(now.Add(10 * time.Minute)):
		return "'Expiration time' claim ('exp') is too far in the future"
	}
	return ""
}

type asked struct {
	Repositories  []string          `json:"repositories"`
	RepositoryIDs []int64           `json:"repository_ids"`
	Permissions   map[string]string `json:"permissions"`
}

func (g *twin) mint(w http.ResponseWriter, r *http.Request, bearer string) {
	if why := g.verify(bearer); why != "" {
		message(w, 401, why)
		return
	}
	var in asked
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		message(w, 400, "Problems parsing JSON")
		return
	}
	repos, why := g.admit(in)
	if why != "" {
		message(w, 422, why)
		return
	}
	g.made++
	token := fmt.Sprintf("ghs_hush%d", g.made)
	token += strings.Repeat("A", max(0, g.length-len(token)))
	g.tokens[token] = true
	granted := map[string]string{"metadata": "read"}
	for name, level := range in.Permissions {
		granted[name] = level
	}
	out := map[string]any{
		"token": token, "expires_at": time.Now().Add(g.ahead + time.Hour).UTC().Format(time.RFC3339),
		"permissions": granted, "repository_selection": "all",
	}
	if len(repos) > 0 {
		out["repository_selection"], out["repositories"] = "selected", repos
	}
	if g.spoil != nil {
		g.spoil(out)
	}
	say(w, 201, out)
}

// admit holds what is asked to what the installation has.
func (g *twin) admit(in asked) (repos []map[string]any, why string) {
	if len(in.Repositories)+len(in.RepositoryIDs) > 500 {
		return nil, "Too many repositories"
	}
	for name, level := range in.Permissions {
		if rank(level) == 0 || rank(level) > rank(g.grants[name]) {
			return nil, "The permissions requested are not granted to this installation."
		}
	}
	for name, id := range g.repos {
		if slices.Contains(in.Repositories, name) || slices.Contains(in.RepositoryIDs, id) {
			repos = append(repos, map[string]any{"id": id, "name": name, "full_name": "acme/" + name, "urls": strings.Repeat("u", 5000)})
		}
	}
	if len(repos) != len(in.Repositories)+len(in.RepositoryIDs) {
		return nil, "There is at least one repository that does not exist or is not accessible to the parent installation."
	}
	return repos, ""
}

func hashOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func (g *twin) set(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
}

// alive counts tokens that are not revoked.
func (g *twin) alive() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, ok := range g.tokens {
		if ok {
			n++
		}
	}
	return n
}
