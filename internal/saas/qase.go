// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package saas

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/egret-proxy/egret/internal/secret"
)

// Scopes of tokens that a Qase twin knows. Qase itself gives a token the rights of its
// owner's role; these two are the difference that matters here.
const (
	QaseRead  = "read"
	QaseWrite = "write"
)

// QaseConfig configures a Qase twin.
type QaseConfig struct {
	Tokens Tokens
	Now    func() time.Time // nil: time.Now; last night is counted from it
}

// QaseCall is one call, good or refused.
type QaseCall struct {
	Method      string
	Path        string
	Fingerprint string // of the Token header; empty where there was none
	Status      int
}

// Qase is a twin of api.qase.io/v1: projects, runs and results of one project, with
// the results of last night. The token is in the header Token, not in Authorization.
type Qase struct {
	faults
	cfg    QaseConfig
	routes *http.ServeMux

	mu      sync.Mutex
	project qaseProject
	runs    []qaseRun // newest last
	results []qaseResult
	calls   []QaseCall
}

// qaseAnswer is what a route gives back.
type qaseAnswer struct {
	status int
	body   any
}

// NewQase returns the twin with its sample project WEB.
func NewQase(cfg QaseConfig) *Qase {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	q := &Qase{cfg: cfg, routes: http.NewServeMux()}
	q.project, q.runs, q.results = lastNight(cfg.Now())
	q.route("/v1/project", map[string]qaseRoute{"GET": q.listProjects})
	q.route("/v1/project/{code}", map[string]qaseRoute{"GET": q.getProject})
	q.route("/v1/run/{code}", map[string]qaseRoute{"GET": q.listRuns, "POST": q.createRun})
	q.route("/v1/run/{code}/{id}", map[string]qaseRoute{"GET": q.getRun})
	q.route("/v1/result/{code}", map[string]qaseRoute{"GET": q.listResults})
	q.route("/", nil)
	return q
}

type qaseRoute func(*http.Request) qaseAnswer

// Calls returns every call, oldest first.
func (q *Qase) Calls() []QaseCall {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.calls)
}

// Runs returns the number of runs; it grows when one is created.
func (q *Qase) Runs() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.runs)
}

// ServeHTTP implements http.Handler.
func (q *Qase) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if q.down(w) {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	q.routes.ServeHTTP(w, r)
}

// route serves one pattern; methods that it does not name are 405, and a nil table is
// the route of everything that does not exist.
func (q *Qase) route(pattern string, byMethod map[string]qaseRoute) {
	q.routes.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		a, ok := q.admit(w, r)
		switch run, known := byMethod[r.Method]; {
		case !ok:
		case byMethod == nil:
			a = qaseFault(http.StatusNotFound, "Not found")
		case !known:
			a = qaseFault(http.StatusMethodNotAllowed, "Method not allowed")
		default:
			a = run(r)
		}
		q.record(r, a.status)
		writeJSON(w, a.status, a.body)
	})
}

// admit checks what comes before every route: limit, token, rights.
func (q *Qase) admit(w http.ResponseWriter, r *http.Request) (qaseAnswer, bool) {
	if q.takeLimit(w) {
		return qaseFault(http.StatusTooManyRequests, "Too Many Attempts."), false
	}
	scopes, state := q.cfg.Tokens.Valid(r.Header.Get("Token"))
	if state != TokenLive {
		return qaseFault(http.StatusUnauthorized, "Unauthenticated."), false
	}
	need := QaseWrite
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		need = QaseRead
	}
	if !slices.Contains(scopes, need) {
		return qaseFault(http.StatusForbidden, "Forbidden"), false
	}
	return qaseAnswer{}, true
}

func (q *Qase) record(r *http.Request, status int) {
	c := QaseCall{
		Method: r.Method, Path: r.URL.EscapedPath(), Status: status,
		Fingerprint: secret.New(r.Header.Get("Token")).Fingerprint(),
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.calls = append(q.calls, c)
}

func (q *Qase) listProjects(r *http.Request) qaseAnswer {
	return qasePage(r, 1, []qaseProject{q.project})
}

func (q *Qase) getProject(r *http.Request) qaseAnswer {
	if !q.ours(r) {
		return qaseFault(http.StatusNotFound, "Project not found")
	}
	return qaseResultOf(q.project)
}

// listRuns answers newest first and filters by status, as Qase does.
func (q *Qase) listRuns(r *http.Request) qaseAnswer {
	if !q.ours(r) {
		return qaseFault(http.StatusNotFound, "Project not found")
	}
	q.mu.Lock()
	all := slices.Clone(q.runs)
	q.mu.Unlock()
	slices.Reverse(all)
	want := listOf(r.URL.Query().Get("status"))
	kept := slices.DeleteFunc(slices.Clone(all), func(x qaseRun) bool {
		return len(want) > 0 && !slices.Contains(want, x.StatusText)
	})
	return qasePage(r, len(all), kept)
}

func (q *Qase) getRun(r *http.Request) qaseAnswer {
	id, err := strconv.Atoi(r.PathValue("id"))
	q.mu.Lock()
	defer q.mu.Unlock()
	at := slices.IndexFunc(q.runs, func(x qaseRun) bool { return x.ID == id })
	if err != nil || !q.ours(r) || at < 0 {
		return qaseFault(http.StatusNotFound, "Run not found")
	}
	return qaseResultOf(q.runs[at])
}

func (q *Qase) createRun(r *http.Request) qaseAnswer {
	if !q.ours(r) {
		return qaseFault(http.StatusNotFound, "Project not found")
	}
	var in struct {
		Title       string  `json:"title"`
		Description *string `json:"description"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, 1<<20)).Decode(&in); err != nil {
		return qaseFault(http.StatusBadRequest, "The request body is not valid JSON")
	}
	if in.Title == "" || len(in.Title) > 255 {
		return qaseInvalid("title", "Title is required and has at most 255 characters.")
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	id := len(q.runs) + 1
	q.runs = append(q.runs, newRun(id, in.Title, q.cfg.Now()))
	q.runs[id-1].Description = in.Description
	return qaseResultOf(map[string]int{"id": id})
}

func (q *Qase) listResults(r *http.Request) qaseAnswer {
	if !q.ours(r) {
		return qaseFault(http.StatusNotFound, "Project not found")
	}
	want, runs := listOf(r.URL.Query().Get("status")), listOf(r.URL.Query().Get("run"))
	kept := slices.DeleteFunc(slices.Clone(q.results), func(x qaseResult) bool {
		return len(want) > 0 && !slices.Contains(want, x.Status) ||
			len(runs) > 0 && !slices.Contains(runs, strconv.Itoa(x.RunID))
	})
	return qasePage(r, len(q.results), kept)
}

func (q *Qase) ours(r *http.Request) bool { return r.PathValue("code") == q.project.Code }

// listOf splits a comma-separated filter; "" is no filter.
func listOf(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// qasePage cuts one page: limit 1 to 100 (10 by default), offset 0 to 100000.
func qasePage[T any](r *http.Request, total int, kept []T) qaseAnswer {
	limit, ok := intParam(r, "limit", 10, [2]int{1, 100})
	if !ok {
		return qaseInvalid("limit", "The limit must be between 1 and 100.")
	}
	offset, ok := intParam(r, "offset", 0, [2]int{0, 100_000})
	if !ok {
		return qaseInvalid("offset", "The offset must be between 0 and 100000.")
	}
	from := min(offset, len(kept))
	page := kept[from:min(from+limit, len(kept))]
	return qaseResultOf(map[string]any{"total": total, "filtered": len(kept), "count": len(page), "entities": page})
}

func intParam(r *http.Request, name string, def int, bounds [2]int) (int, bool) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return def, true
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= bounds[0] && n <= bounds[1]
}

func qaseResultOf(v any) qaseAnswer {
	return qaseAnswer{http.StatusOK, map[string]any{"status": true, "result": v}}
}

func qaseFault(status int, message string) qaseAnswer {
	return qaseAnswer{status, map[string]any{"status": false, "errorMessage": message}}
}

func qaseInvalid(field, why string) qaseAnswer {
	return qaseAnswer{http.StatusUnprocessableEntity, map[string]any{
		"status": false, "errorMessage": "Data is invalid.",
		"errorFields": []map[string]string{{"field": field, "error": why}},
	}}
}
