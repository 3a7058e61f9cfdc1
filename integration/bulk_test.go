// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/internal/saas"
)

const (
	bulk    = 1 << 30
	maxGrow = 64 << 20 // of egret's resident memory while a GiB goes through
)

// A GiB streams through in both directions and both protocols, byte for byte, and egret
// holds next to nothing of it.
func TestBulk(t *testing.T) {
	e := newWorld(t).start(t, "")
	up := `head -c 1073741824 /dev/zero | curl -sSf "$1" -T - "$0"`
	down := `curl -sSf "$1" "$0" | sha256sum`
	e.exec(t, "sidecar", command{argv: []string{"curl", "-sSf", echoGood}}) // caches are filled
	for _, proto := range []string{"--http1.1", "--http2"} {
		t.Run("upload"+proto, func(t *testing.T) {
			got := e.flat(t, command{argv: []string{"sh", "-c", up, "https://echo.egret.test/upload", proto}})
			var report saas.EchoReport
			if err := json.Unmarshal([]byte(got.stdout), &report); err != nil || report.BodyBytes != bulk || report.BodySHA256 != zeroes {
				t.Errorf("%v: the SaaS got %d bytes, sha256 %s\n%s", err, report.BodyBytes, report.BodySHA256, got.stderr)
			}
		})
		t.Run("download"+proto, func(t *testing.T) {
			got := e.flat(t, command{argv: []string{"sh", "-c", down, fmt.Sprintf("https://echo.egret.test/bytes/%d", bulk), proto}})
			if digest, _, _ := strings.Cut(got.stdout, " "); digest != saas.PatternSHA256(bulk) {
				t.Errorf("the client got something else: %s\n%s", got.stdout, got.stderr)
			}
		})
	}
}

// zeroes is the SHA-256 of a GiB of zeroes.
const zeroes = "49bc20df15e412a64472421e13fe86ff1c5165e18b2afccf160d4dc19fe68a14"

// flat runs a program and watches egret's memory meanwhile.
func (e *egret) flat(t *testing.T, c command) result {
	t.Helper()
	before := e.resident(t)
	most, stop, stopped := before, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for tick := time.NewTicker(50 * time.Millisecond); ; {
			select {
			case <-stop:
				tick.Stop()
				return
			case <-tick.C:
				most = max(most, e.resident(t))
			}
		}
	}()
	begin := time.Now()
	got := e.exec(t, "sidecar", c)
	took := time.Since(begin)
	close(stop)
	<-stopped
	t.Logf("%.0f MiB/s; egret's memory %d MiB before, at most %d MiB", bulk/took.Seconds()/(1<<20), before>>20, most>>20)
	if got.code != 0 || most-before > maxGrow {
		t.Errorf("exit %d, egret grew by %d MiB\n%s", got.code, (most-before)>>20, got.stderr)
	}
	return got
}

// resident is egret's VmRSS in bytes.
func (e *egret) resident(t *testing.T) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", e.Pid()))
	if err != nil {
		t.Error(err)
		return 0
	}
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte("VmRSS:")); ok {
			n, err := strconv.ParseInt(string(bytes.Fields(rest)[0]), 10, 64)
			if err != nil {
				t.Error(err)
			}
			return n << 10
		}
	}
	t.Error("no VmRSS")
	return 0
}
