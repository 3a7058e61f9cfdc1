// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/egret-proxy/egret/audit"
)

// bulkBytes is how much the bulk tests move: 64 MiB, 1 GiB with EGRET_BULK=1.
func bulkBytes() int64 {
	switch {
	case os.Getenv("EGRET_BULK") != "":
		return 1 << 30
	case raceEnabled, testing.Short():
		return 32 << 20
	}
	return 64 << 20
}

// maxHeapGrowth is what a body may cost in memory, whatever its size: copy buffers and
// flow control windows of all parties of the test, garbage included.
const maxHeapGrowth = 32 << 20

// watchHeap samples the heap until the returned function is called, which gives the growth.
func watchHeap() func() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	base, peak := m.HeapAlloc, m.HeapAlloc
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for t := time.NewTicker(10 * time.Millisecond); ; {
			select {
			case <-t.C:
				runtime.ReadMemStats(&m)
				peak = max(peak, m.HeapAlloc)
			case <-stop:
				t.Stop()
				return
			}
		}
	})
	return func() int64 { close(stop); wg.Wait(); return int64(peak - base) }
}

// zeros is an endless reader that costs nothing.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// endOf is recordOf for what may take so long that it becomes a stream with a start record.
func (w *world) endOf(resp *http.Response) record {
	w.t.Helper()
	_, id, _ := strings.Cut(resp.Header.Get("Egret-Decision"), "id=")
	return w.wait(1, func(r record) bool {
		return id != "" && r.ID == id && (r.Kind == audit.KindRequest || r.Kind == audit.KindStreamEnd)
	})[0]
}

func TestBodiesOfAnySizeStream(t *testing.T) {
	n := bulkBytes()
	w := newWorld(t, withHandler(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			rw.Header().Set("Content-Length", fmt.Sprint(n))
			_, _ = io.CopyN(rw, zeros{}, n)
			return
		}
		got, err := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprint(rw, got, err)
	}))
	both(t, w, func(t *testing.T, c *http.Client) {
		c.Timeout = 0
		grown := watchHeap()
		resp := do(t, c, request(t, "POST", "https://"+otherHost+"/up", io.LimitReader(zeros{}, n)))
		if text := body(t, resp); text != fmt.Sprint(n, error(nil)) {
			t.Errorf("upload: the SaaS got %s", text)
		}
		up := w.endOf(resp)
		resp = do(t, c, request(t, "GET", "https://"+otherHost+"/down", nil))
		if got, err := io.Copy(io.Discard, resp.Body); got != n || err != nil {
			t.Errorf("download: %d bytes, %v", got, err)
		}
		_ = resp.Body.Close()
		down := w.endOf(resp)
		if up.BytesIn != n || down.BytesOut != n {
			t.Errorf("records of %d bytes in and %d out, want %d", up.BytesIn, down.BytesOut, n)
		}
		if g := grown(); g > maxHeapGrowth {
			t.Errorf("the heap grew by %d MiB", g>>20)
		} else {
			t.Logf("the heap grew by %d MiB for %d MiB each way", g>>20, n>>20)
		}
	})
}
