// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/egret-proxy/egret/internal/escape"
)

// Check is one thing that must be well for egret to be ready.
type Check struct {
	Name string
	// Run tells in plain words what is wrong, nil if nothing is. It must be quick, safe
	// for concurrent use, and its error must hold nothing secret.
	Run func() error
	// Advisory: a failure is shown, and egret is ready all the same.
	Advisory bool
}

// Advise makes the error of a check that is not advisory one that is: what will fail
// unless somebody acts, and has not yet.
func Advise(err error) error { return &advice{err} }

type advice struct{ error }

func (a *advice) Unwrap() error { return a.error }

// Version is what /version tells.
type Version struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Date    string `json:"date,omitempty"` // of the commit
	Go      string `json:"go,omitempty"`
}

// MetricsOptions are what Metrics shows.
type MetricsOptions struct {
	Gatherer prometheus.Gatherer
	Checks   []Check
	Version  Version
	Logger   *slog.Logger // nil: silent
}

// Metrics answers /metrics, /livez, /readyz and /version to GET and HEAD, and nothing
// else. It belongs on a listener of its own (MUST P2). Safe for concurrent use.
type Metrics struct {
	o     MetricsOptions
	pages map[string]http.HandlerFunc
}

// NewMetrics makes the handler; serve it with NewServer.
func NewMetrics(o MetricsOptions) *Metrics {
	m := &Metrics{o: o}
	prom := promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(orSilent(o.Logger).Handler(), slog.LevelWarn),
		MaxRequestsInFlight: 4,
		Timeout:             10 * time.Second,
	})
	m.pages = map[string]http.HandlerFunc{
		"/metrics": prom.ServeHTTP,
		"/livez":   m.live,
		"/readyz":  m.ready,
		"/version": m.version,
	}
	return m
}

// ServeHTTP implements http.Handler. Paths are compared as they are: a mux would
// redirect what merely resembles one.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	page, ok := m.pages[r.URL.Path]
	if !ok {
		http.Error(w, "not found: there are /metrics, /livez, /readyz and /version", http.StatusNotFound)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "this listener changes nothing: use GET or HEAD", http.StatusMethodNotAllowed)
		return
	}
	page(w, r)
}

// live: the process runs and answers. Nothing that a restart would not mend belongs here.
func (m *Metrics) live(w http.ResponseWriter, _ *http.Request) {
	writeText(w, http.StatusOK, "ok\n")
}

// ready tells every check by name, and 503 where one fails that is not advisory.
func (m *Metrics) ready(w http.ResponseWriter, _ *http.Request) {
	var lines strings.Builder
	status, head := http.StatusOK, "ready\n"
	for _, c := range m.o.Checks {
		err := c.run()
		switch {
		case err == nil:
			fmt.Fprintf(&lines, "%s: ok\n", c.Name)
		case c.Advisory || isAdvice(err):
			fmt.Fprintf(&lines, "%s: degraded: %s\n", c.Name, escape.Terminal(err.Error()))
		default:
			fmt.Fprintf(&lines, "%s: failed: %s\n", c.Name, escape.Terminal(err.Error()))
			status, head = http.StatusServiceUnavailable, "not ready\n"
		}
	}
	writeText(w, status, head+lines.String())
}

func isAdvice(err error) bool {
	_, is := errors.AsType[*advice](err)
	return is
}

// run takes a check that panics for one that fails.
func (c Check) run() (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the check itself failed (%T)", v)
		}
	}()
	return c.Run()
}

func (m *Metrics) version(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, m.o.Version)
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) //nolint:errchkjson // the peer has gone: nobody to tell
}
