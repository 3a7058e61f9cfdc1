// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package reference

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/cmd/egret/internal/node"
	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/identity/process"
)

// recorder is a registry that remembers what was registered: a description does not
// tell the type of a metric, its collector does.
type recorder struct {
	*prometheus.Registry
	seen []prometheus.Collector
}

// Register implements prometheus.Registerer.
func (r *recorder) Register(c prometheus.Collector) error {
	r.seen = append(r.seen, c)
	return r.Registry.Register(c)
}

// MustRegister implements prometheus.Registerer.
func (r *recorder) MustRegister(list ...prometheus.Collector) {
	for _, c := range list {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}

type metric struct{ name, kind, labels, help string }

// writeMetrics builds a whole node, as egret run does, and lists what it registers.
func writeMetrics(_ Options, m *markdown) error {
	reg := &recorder{Registry: prometheus.NewRegistry()}
	if err := buildNode(reg); err != nil {
		return err
	}
	if err := buildLocal(reg); err != nil {
		return err
	}
	list, err := metricsOf(reg.seen)
	if err != nil {
		return err
	}
	m.title("Metrics", "what a node registers")
	m.para("Served at `/metrics` of the listener `metrics.address`, with `/livez`, `/readyz` and `/version`. " +
		"No label grows with traffic: destinations, workloads, listeners and credentials are names from the configuration, " +
		"the others are constants. Besides these there are the usual `go_*` and `process_*`.")
	rows := make([][]string, 0, len(list))
	for _, x := range list {
		rows = append(rows, []string{mono(x.name), x.kind, x.labels, prose(x.help)})
	}
	m.table([]string{"metric", "type", "labels", "meaning"}, rows)
	return nil
}

// buildNode makes a node that serves nothing and takes it down again.
func buildNode(reg node.Registry) error {
	dir, err := os.MkdirTemp("", "egret-docs-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	cfg, err := smallestNode(dir)
	if err != nil {
		return err
	}
	n, err := node.New(node.Options{Config: cfg, Logger: slog.New(slog.DiscardHandler), Stdout: io.Discard, Registry: reg})
	if err != nil {
		return err
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	return n.Run(ended)
}

// buildLocal makes what a process listener registers besides, on systems too that have
// no such listeners.
func buildLocal(reg prometheus.Registerer) error {
	r, err := process.New(process.Options{
		Attestor:     struct{ process.Attestor }{}, // it is not asked
		TrustDomains: []spiffeid.TrustDomain{spiffeid.RequireTrustDomainFromString("acme.example")},
		Registerer:   prometheus.WrapRegistererWith(prometheus.Labels{"listener": "docs"}, reg),
	})
	if err != nil {
		return err
	}
	r.Close()
	return nil
}

const (
	smallestSettings = `listeners: [{name: docs, address: "127.0.0.1:0", kind: forward, identify: {sidecar: {}}}]
spiffe: {trustDomains: [acme.example], embedded: {spiffeID: "spiffe://acme.example/docs"}}
certs: {issuer: {ephemeral: {}}}
policy: {paths: [{path: policy.yaml}]}
`
	smallestPolicy = `apiVersion: egret.dev/v1alpha1
kind: Destination
metadata: {name: slack}
spec: {hosts: [slack.com]}
`
)

func smallestNode(dir string) (*config.Node, error) {
	file := filepath.Join(dir, "egret.yaml")
	for name, text := range map[string]string{file: smallestSettings, filepath.Join(dir, "policy.yaml"): smallestPolicy} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	cfg, faults := config.LoadNode(file, config.Env{HostNetwork: func() bool { return false }})
	if len(faults) > 0 {
		return nil, faults
	}
	return cfg, nil
}

// metricsOf describes collectors, sorted by name, without those of the Go runtime.
func metricsOf(collectors []prometheus.Collector) ([]metric, error) {
	var out []metric
	for _, c := range collectors {
		for _, d := range descriptions(c) {
			x, err := parseDescription(d.String())
			if err != nil {
				return nil, err
			}
			if !strings.HasPrefix(x.name, "egret_") {
				continue
			}
			x.kind = kindOf(c)
			out = append(out, x)
		}
	}
	slices.SortFunc(out, func(a, b metric) int { return strings.Compare(a.name, b.name) })
	return out, nil
}

func descriptions(c prometheus.Collector) []*prometheus.Desc {
	ch := make(chan *prometheus.Desc)
	go func() { defer close(ch); c.Describe(ch) }()
	var out []*prometheus.Desc
	for d := range ch {
		out = append(out, d)
	}
	return out
}

// parseDescription reads what prometheus.Desc tells only as text.
func parseDescription(text string) (metric, error) {
	form := regexp.MustCompile(`^Desc\{fqName: "([^"]+)", help: "(.*?)", (?:unit: "[^"]*", )?constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)
	parts := form.FindStringSubmatch(text)
	if parts == nil {
		return metric{}, fmt.Errorf("metric %q: described in a form that is not known", text)
	}
	help, err := strconv.Unquote(`"` + parts[2] + `"`)
	if err != nil {
		return metric{}, fmt.Errorf("metric %q: help: %w", parts[1], err)
	}
	labels := constantLabels(parts[3])
	if parts[4] != "" {
		labels = append(labels, strings.Split(parts[4], ",")...)
	}
	return metric{name: parts[1], help: help, labels: strings.Join(labels, ", ")}, nil
}

// constantLabels are the names in name="value",name="value".
func constantLabels(text string) []string {
	var out []string
	for _, m := range regexp.MustCompile(`([a-z_]+)="`).FindAllStringSubmatch(text, -1) {
		out = append(out, m[1])
	}
	return out
}

// kindOf is the type of a collector's metrics. One of our own that does not say is a gauge.
func kindOf(c prometheus.Collector) string {
	switch c := c.(type) {
	case *prometheus.CounterVec:
		return "counter"
	case *prometheus.HistogramVec:
		return "histogram"
	case prometheus.Metric:
		return kindOfMetric(c)
	}
	return "gauge"
}

func kindOfMetric(m prometheus.Metric) string {
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		return errors.Join(errors.New("unknown"), err).Error()
	}
	switch {
	case out.GetCounter() != nil:
		return "counter"
	case out.GetHistogram() != nil:
		return "histogram"
	}
	return "gauge"
}
