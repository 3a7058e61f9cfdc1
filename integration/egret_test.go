// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package integration

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/egret-proxy/egret/integration/internal/testbed"
)

// egret is a running `egret run`.
type egret struct {
	*testbed.Egret
	world *world
	read  int64 // of the audit file
}

// start runs egret with the world's files until the test ends, and waits until it is
// ready.
func (w *world) start(t *testing.T, upstreamProxy string) *egret {
	t.Helper()
	w.render(t, "egret.yaml", map[string]any{"WorkloadAPI": w.workloadAPI, "UpstreamProxy": upstreamProxy})
	cmd := exec.Command(os.Getenv(egretVar), "run", "-c", w.file("egret.yaml"))
	cmd.Dir = w.dir
	e := &egret{Egret: testbed.Run(t, cmd), world: w}
	t.Cleanup(func() {
		e.Stop()
		e.holdsNoKey(t)
	})
	return e
}

// holdsNoKey looks for every key in what egret wrote.
func (e *egret) holdsNoKey(t *testing.T) {
	t.Helper()
	for name, key := range e.world.keys {
		if e.Reveals(key.Reveal()) {
			t.Errorf("egret wrote down the key of %s", name)
		}
	}
}

// record is what the tests look at of an audit record.
type record struct {
	Kind, ID, Workload, Evidence, Verdict, Layer, Reason, Host, Method, Credential string
	Status                                                                         int
	CallerCredential                                                               string `json:"caller_credential"`
}

// records returns what has been recorded since the last time, as soon as n requests,
// streams or handshakes have ended, or after three seconds.
func (e *egret) records(t *testing.T, n int) []record {
	t.Helper()
	var list []record
	for end := time.Now().Add(3 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		list = append(list, e.newRecords(t)...)
		ended := 0
		for _, r := range list {
			if r.Kind != "stream_start" {
				ended++
			}
		}
		if ended >= n || time.Now().After(end) {
			return list
		}
	}
}

func (e *egret) newRecords(t *testing.T) []record {
	t.Helper()
	f, err := os.Open(e.world.file("audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Seek(e.read, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1] // a line may be half written
	e.read += int64(len(text))
	var list []record
	for line := range bytes.Lines(text) {
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("record %s: %v", line, err)
		}
		list = append(list, r)
	}
	return list
}
