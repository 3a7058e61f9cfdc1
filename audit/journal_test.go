// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// journal makes a Journal that is closed with the test.
func journal(t testing.TB, o Options) *Journal {
	t.Helper()
	if o.Queue == 0 {
		o.Queue = 4
	}
	j, err := NewLog(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = j.Close(ctx)
		<-j.doneC
	})
	return j
}

func TestRecordsReachTheSinkInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &faultySink{}
		j := journal(t, Options{Writer: sink, Queue: 8, Node: "n7"})
		var want []string
		for i := range 40 {
			id := fmt.Sprint(i)
			begin(t, j).Write(Record{ID: id})
			want = append(want, id)
			if i%5 == 4 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		if diff := cmp.Diff(want, sink.ids(t)); diff != "" {
			t.Error(diff)
		}
		if line, _, _ := strings.Cut(sink.buf.String(), "\n"); !strings.Contains(line, `"node":"n7"`) || !strings.Contains(line, Schema) {
			t.Errorf("node or schema is missing in %s", line)
		}
	})
}

func TestMUST_A1_NoPlaceNoRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &faultySink{}
		j := journal(t, Options{Writer: sink, Queue: 2})
		first, second := begin(t, j), begin(t, j)
		if _, err := j.Begin(); !errors.Is(err, ErrFull) {
			t.Fatalf("third Begin of two: %v", err)
		}
		if err := j.Healthy(); !errors.Is(err, ErrFull) {
			t.Errorf("Healthy: %v", err)
		}
		first.Write(Record{ID: "1"})
		synctest.Wait()
		begin(t, j).Write(Record{ID: "3"})
		second.Write(Record{ID: "2"})
		synctest.Wait()
		if err := j.Healthy(); err != nil {
			t.Errorf("Healthy: %v", err)
		}
		if got := testutil.ToFloat64(j.metrics.refused); got != 1 {
			t.Errorf("refused_total is %v", got)
		}
		if got := testutil.ToFloat64(j.metrics.written); got != 3 {
			t.Errorf("written_total is %v", got)
		}
	})
}

func TestMUST_A1_FailingSinkRefusesUntilItWritesAgain(t *testing.T) {
	for name, fault := range map[string]struct{ write, sync error }{
		"write": {write: errDisk},
		"fsync": {sync: errDisk},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sink := &faultySink{}
				sink.fail(fault.write, fault.sync)
				j := journal(t, Options{Writer: sink})
				inFlight := begin(t, j)
				begin(t, j).Write(Record{ID: "1"})
				time.Sleep(2 * time.Second)
				if _, err := j.Begin(); !errors.Is(err, ErrFull) {
					t.Fatalf("Begin with a failing sink: %v", err)
				}
				if err := j.Healthy(); !errors.Is(err, errDisk) {
					t.Fatalf("Healthy: %v", err)
				}
				inFlight.Write(Record{ID: "2"}) // was admitted before: kept
				time.Sleep(time.Minute)
				sink.fail(nil, nil)
				time.Sleep(maxRetry)
				synctest.Wait()
				if err := j.Healthy(); err != nil {
					t.Errorf("Healthy after recovery: %v", err)
				}
				begin(t, j).Write(Record{ID: "3"})
				synctest.Wait()
				if diff := cmp.Diff([]string{"1", "2", "3"}, sink.ids(t)); diff != "" {
					t.Error(diff)
				}
				if lost := testutil.ToFloat64(j.metrics.lost); lost != 0 {
					t.Errorf("lost_total is %v", lost)
				}
			})
		})
	}
}

func TestMUST_A1_DropIsCountedAndVisible(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &faultySink{}
		sink.fail(errDisk, nil)
		j := journal(t, Options{Writer: sink, Queue: 2, OnFull: Drop})
		for i := range 5 {
			begin(t, j).Write(Record{ID: fmt.Sprint(i)})
			synctest.Wait()
		}
		if lost := testutil.ToFloat64(j.metrics.lost); lost != 3 {
			t.Errorf("lost_total is %v, want 3", lost)
		}
		sink.fail(nil, nil)
		time.Sleep(maxRetry)
		synctest.Wait()
		if diff := cmp.Diff([]string{"0", "1"}, sink.ids(t)); diff != "" {
			t.Error(diff)
		}
		if err := j.Healthy(); err == nil || !strings.HasPrefix(err.Error(), "records were lost, last at ") {
			t.Errorf("Healthy right after a loss: %v", err)
		}
		time.Sleep(lossShown)
		if err := j.Healthy(); err != nil {
			t.Errorf("Healthy long after a loss: %v", err)
		}
	})
}

func TestRetriesBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &faultySink{}
		sink.fail(errDisk, nil)
		j := journal(t, Options{Writer: sink, OnFull: Drop})
		begin(t, j).Write(Record{})
		time.Sleep(time.Minute + time.Millisecond)
		// 0, .1, .3, .7, 1.5, 3.1, 6.3, then every 5 s.
		if writes, _, _ := sink.counts(); writes != 7+10 {
			t.Errorf("%d attempts in a minute, want 17", writes)
		}
	})
}

func TestNewRecordsDoNotHurryAFailingSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &faultySink{}
		sink.fail(errDisk, nil)
		j := journal(t, Options{Writer: sink, Queue: 100, OnFull: Drop})
		for range 50 {
			begin(t, j).Write(Record{})
			synctest.Wait()
		}
		if writes, _, _ := sink.counts(); writes != 1 {
			t.Errorf("%d attempts before the first pause was over", writes)
		}
	})
}

func TestPartOfABatchIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &faultySink{take: 30}
		sink.fail(errDisk, nil)
		j := journal(t, Options{Writer: sink})
		begin(t, j).Write(record("1"))
		synctest.Wait()
		sink.fail(nil, nil)
		time.Sleep(minRetry)
		synctest.Wait()
		if diff := cmp.Diff([]string{"1"}, sink.ids(t)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestSyncFollowsWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &faultySink{}
		j := journal(t, Options{Writer: sink})
		time.Sleep(time.Minute)
		if _, syncs, _ := sink.counts(); syncs != 0 {
			t.Fatalf("%d syncs with nothing written", syncs)
		}
		begin(t, j).Write(Record{})
		time.Sleep(syncEvery + time.Millisecond)
		if _, syncs, _ := sink.counts(); syncs != 1 {
			t.Errorf("%d syncs after a second, want 1", syncs)
		}
		for range 100 { // a second's worth
			begin(t, j).Write(Record{})
			time.Sleep(10 * time.Millisecond)
		}
		if _, syncs, _ := sink.counts(); syncs > 3 {
			t.Errorf("%d syncs in two seconds", syncs)
		}
	})
}

func TestRecordsAreBatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &faultySink{block: make(chan struct{})}
		j := journal(t, Options{Writer: sink, Queue: 1000})
		begin(t, j).Write(Record{})
		synctest.Wait() // the writer is in Write
		for range 900 {
			begin(t, j).Write(record("x"))
		}
		close(sink.block)
		synctest.Wait()
		if writes, _, _ := sink.counts(); writes > 20 {
			t.Errorf("%d writes for 901 records", writes)
		}
		if n := len(sink.ids(t)); n != 901 {
			t.Errorf("%d records", n)
		}
	})
}

// Under load the writer is not woken for each record: a system call for each would cost
// more than the record.
func TestRecordsThatComeOneByOneAreGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// No record comes at the very instant at which the writer wakes: whether that one goes
		// with the others or apart hangs on the scheduler.
		const records, apart = 1000, 99 * time.Microsecond
		sink := &faultySink{}
		j := journal(t, Options{Writer: sink, Queue: 4096})
		synctest.Wait() // the writer has come to rest: it has no signal left from before
		for i := range records {
			begin(t, j).Write(Record{ID: fmt.Sprint(i)})
			if i == 0 {
				synctest.Wait()
				if n := len(sink.ids(t)); n != 1 {
					t.Errorf("a record on its own waits")
				}
			}
			time.Sleep(apart)
		}
		time.Sleep(gather)
		synctest.Wait()
		if n := len(sink.ids(t)); n != records {
			t.Errorf("%d records after %v", n, gather)
		}
		if writes, _, _ := sink.counts(); writes > int(records*apart/gather)+2 {
			t.Errorf("%d writes", writes)
		}
	})
}

// A short queue is emptied before it is full.
func TestGatheringLeavesPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := journal(t, Options{Writer: &faultySink{}, Queue: 4})
		for range 100 { // without a pause
			begin(t, j).Write(Record{})
			begin(t, j).Write(Record{})
			synctest.Wait()
		}
	})
}

func TestCloseWaitsForReservedPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &faultySink{}
		j := journal(t, Options{Writer: sink})
		slot := begin(t, j)
		closed := make(chan error, 1)
		go func() { closed <- j.Close(t.Context()) }()
		synctest.Wait()
		select {
		case err := <-closed:
			t.Fatalf("Close returned %v with a place reserved", err)
		default:
		}
		if _, err := j.Begin(); !errors.Is(err, ErrClosed) {
			t.Errorf("Begin while closing: %v", err)
		}
		slot.Write(Record{ID: "last"})
		if err := <-closed; err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"last"}, sink.ids(t)); diff != "" {
			t.Error(diff)
		}
		if _, syncs, closes := sink.counts(); syncs != 1 || closes != 1 {
			t.Errorf("%d syncs, %d closes", syncs, closes)
		}
	})
}

func TestCloseGivesUpWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &faultySink{}
		sink.fail(errDisk, nil)
		j := journal(t, Options{Writer: sink})
		begin(t, j) // never written
		begin(t, j).Write(Record{ID: "stuck"})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := j.Close(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "2 records were not written") {
			t.Errorf("Close: %v", err)
		}
		if lost := testutil.ToFloat64(j.metrics.lost); lost != 2 {
			t.Errorf("lost_total is %v", lost)
		}
		<-j.doneC
		if _, _, closes := sink.counts(); closes != 1 {
			t.Errorf("%d closes", closes)
		}
	})
}

func TestCloseTellsThatTheLastSyncFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &faultySink{}
		sink.fail(nil, errDisk)
		j := journal(t, Options{Writer: sink})
		begin(t, j).Write(Record{})
		synctest.Wait()
		if err := j.Close(t.Context()); !errors.Is(err, errDisk) {
			t.Errorf("Close: %v", err)
		}
	})
}

func TestBlockedSinkBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &faultySink{block: make(chan struct{})}
		j := journal(t, Options{Writer: sink, Queue: 2})
		began := time.Now()
		begin(t, j).Write(Record{})
		synctest.Wait()
		begin(t, j).Write(Record{})
		if _, err := j.Begin(); !errors.Is(err, ErrFull) {
			t.Errorf("Begin: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := j.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close: %v", err)
		}
		if d := time.Since(began); d != time.Second {
			t.Errorf("took %v", d)
		}
		close(sink.block)
	})
}

func TestSecondWriteIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &faultySink{}
		j := journal(t, Options{Writer: sink})
		slot := begin(t, j)
		slot.Write(Record{ID: "1"})
		slot.Write(Record{ID: "forged"})
		synctest.Wait()
		slot.Write(Record{ID: "late"})
		synctest.Wait()
		if diff := cmp.Diff([]string{"1"}, sink.ids(t)); diff != "" {
			t.Error(diff)
		}
		if got := testutil.ToFloat64(j.metrics.misused); got != 2 {
			t.Errorf("misuse_total is %v", got)
		}
	})
}

func TestSecondWritePanicsInTests(t *testing.T) {
	j := journal(t, Options{Writer: &faultySink{}, PanicOnMisuse: true})
	slot := begin(t, j)
	slot.Write(Record{})
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	slot.Write(Record{})
}

func TestOptionFaults(t *testing.T) {
	used := prometheus.NewRegistry()
	journal(t, Options{Writer: &faultySink{}, Registerer: used})
	for name, tc := range map[string]struct {
		o    Options
		want string
	}{
		"no sink":    {Options{Queue: 1}, "audit: no sink to write records to"},
		"no queue":   {Options{Writer: &faultySink{}}, "audit: queue is 0: it must be between 1 and 1048576 places"},
		"huge queue": {Options{Writer: &faultySink{}, Queue: 1 << 21}, "audit: queue is 2097152: it must be between 1 and 1048576 places"},
		"registered": {Options{Writer: &faultySink{}, Queue: 1, Registerer: used}, "audit: metrics: duplicate metrics collector"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := NewLog(tc.o); err == nil || !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, sink := prometheus.NewPedanticRegistry(), &faultySink{}
		sink.fail(errDisk, nil)
		j := journal(t, Options{Writer: sink, Queue: 3, OnFull: Drop, Registerer: reg})
		for range 4 {
			begin(t, j).Write(Record{})
		}
		synctest.Wait()
		want := `
# HELP egret_audit_failing 1 while the audit sink does not take records.
# TYPE egret_audit_failing gauge
egret_audit_failing 1
# HELP egret_audit_lost_total Audit records that were lost: dropped for want of a place, or not written before the end.
# TYPE egret_audit_lost_total counter
egret_audit_lost_total 1
# HELP egret_audit_queue Audit places taken: records reserved or not yet written.
# TYPE egret_audit_queue gauge
egret_audit_queue 3
# HELP egret_audit_queue_limit Audit places there are.
# TYPE egret_audit_queue_limit gauge
egret_audit_queue_limit 3
# HELP egret_audit_write_errors_total Writes and syncs of the audit sink that failed.
# TYPE egret_audit_write_errors_total counter
egret_audit_write_errors_total 1
`
		err := testutil.GatherAndCompare(reg, strings.NewReader(want), "egret_audit_failing", "egret_audit_lost_total",
			"egret_audit_queue", "egret_audit_queue_limit", "egret_audit_write_errors_total")
		if err != nil {
			t.Error(err)
		}
	})
}

// Every record that was begun is written once, whatever many goroutines and a Close in
// their midst do to the lists.
func TestManyWriters(t *testing.T) {
	sink := &faultySink{}
	j := journal(t, Options{Writer: sink, Queue: 16})
	var wg sync.WaitGroup
	var begun atomic.Int64
	for g := range 8 {
		wg.Go(func() {
			for i := range 2000 {
				slot, err := j.Begin()
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil {
					continue
				}
				begun.Add(1)
				slot.Write(Record{ID: fmt.Sprint(g, "/", i)})
			}
		})
	}
	time.Sleep(2 * time.Millisecond)
	if err := j.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	seen := make(map[string]bool)
	for _, id := range sink.ids(t) {
		if seen[id] {
			t.Fatalf("%s twice", id)
		}
		seen[id] = true
	}
	if int64(len(seen)) != begun.Load() {
		t.Errorf("%d begun, %d written", begun.Load(), len(seen))
	}
	if n := j.open.Load(); n != 0 {
		t.Errorf("%d places still open", n)
	}
}

func TestRequestPathDoesNotAllocate(t *testing.T) {
	j := journal(t, Options{Writer: NewStream(io.Discard), Queue: 1024})
	r := record("01J")
	n := testing.AllocsPerRun(5000, func() {
		slot, err := j.Begin()
		for err != nil {
			slot, err = j.Begin()
		}
		slot.Write(r)
	})
	if n != 0 {
		t.Errorf("%v allocations in Begin and Write", n)
	}
}

func TestRefusalDoesNotAllocate(t *testing.T) {
	j := journal(t, Options{Writer: NewStream(io.Discard), Queue: 1})
	begin(t, j)
	if n := testing.AllocsPerRun(100, func() { _, _ = j.Begin() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkBeginWrite is the cost of a record on the request path, where there is a
// place ("free") and where there is none ("dropped").
func BenchmarkBeginWrite(b *testing.B) {
	for name, queue := range map[string]int{"free": 1 << 16, "dropped": 1} {
		b.Run(name, func(b *testing.B) {
			j := journal(b, Options{Writer: NewStream(io.Discard), Queue: queue, OnFull: Drop})
			r := record("01J")
			if queue == 1 {
				begin(b, j)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%(1<<15) == 1<<15-1 && queue > 1 {
					b.StopTimer()
					waitFor(b, func() bool { return j.open.Load() == 0 })
					b.StartTimer()
				}
				slot, _ := j.Begin()
				slot.Write(r)
			}
			b.ReportMetric(testutil.ToFloat64(j.metrics.lost)/float64(b.N), "lost/op")
		})
	}
}

// BenchmarkThroughput is what the writer sustains, encoding included.
func BenchmarkThroughput(b *testing.B) {
	j := journal(b, Options{Writer: NewStream(io.Discard), Queue: 4096})
	r := record("01J")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			slot, err := j.Begin()
			for ; err != nil; slot, err = j.Begin() {
				runtime.Gosched()
			}
			slot.Write(r)
		}
	})
}
