// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errDisk = errors.New("no space left on device")

// faultySink is a Sink whose faults are switched on and off.
type faultySink struct {
	mu       sync.Mutex
	buf      bytes.Buffer
	writeErr error
	syncErr  error
	take     int // with writeErr: bytes that are taken all the same
	writes   int
	syncs    int
	closes   int
	block    chan struct{} // not nil: Write waits for it
}

func (s *faultySink) Write(p []byte) (int, error) {
	if s.block != nil {
		<-s.block
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	if s.writeErr != nil {
		n, _ := s.buf.Write(p[:min(s.take, len(p))])
		return n, s.writeErr
	}
	return s.buf.Write(p)
}

func (s *faultySink) Sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.syncs++
	return s.syncErr
}

func (s *faultySink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closes++
	return nil
}

func (s *faultySink) fail(write, sync error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeErr, s.syncErr = write, sync
}

func (s *faultySink) counts() (writes, syncs, closes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writes, s.syncs, s.closes
}

// ids returns the request ids of the lines that were taken, in order.
func (s *faultySink) ids(t testing.TB) []string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	return readIDs(t, bytes.NewReader(s.buf.Bytes()))
}

func readIDs(t testing.TB, r io.Reader) []string {
	t.Helper()
	var ids []string
	for l := newLines(r); ; {
		line, err := l.next()
		if err == io.EOF {
			return ids
		}
		var rec Record
		if err == nil {
			err = rec.UnmarshalJSON(line)
		}
		if err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		ids = append(ids, rec.ID)
	}
}

// start is an instant with whole microseconds.
var start = time.Date(2026, 11, 21, 12, 0, 0, 123456000, time.UTC)

func record(id string) Record {
	return Record{
		Schema: Schema, Kind: KindRequest, Time: start, ID: id, Node: "node-1", Listener: "local",
		Workload: "spiffe://acme.example/ns/qa/sa/dashboard", Evidence: "sidecar", Owner: "qa@acme.example",
		Policy: "dashboard-posts-to-slack", PolicyDigest: "3f2a", PolicySet: "5e7b", Credential: "slack-bot",
		Fingerprint: "sha256:0123456789ab", Environment: "production", Method: "POST", Host: "slack.com", Port: 443,
		PathTemplate: "/api/chat.postMessage", Status: 200, Verdict: "allow", CallerCredential: CallerNone,
		BytesIn: 120, BytesOut: 4096, TIdentity: 3 * time.Microsecond, TPolicy: 2 * time.Microsecond,
		TCredential: 5 * time.Microsecond, TUpstream: 80 * time.Millisecond, TTotal: 81 * time.Millisecond,
		Proto: "h2", UpstreamIP: "192.0.2.7", UpstreamID: "req-9",
	}
}

func begin(t testing.TB, l Log) Slot {
	t.Helper()
	s, err := l.Begin()
	if err != nil {
		t.Fatalf("Begin: %v", err)
	}
	return s
}
