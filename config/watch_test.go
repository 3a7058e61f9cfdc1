// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shortQuiet is what the tests wait instead of watchQuiet.
const shortQuiet = 40 * time.Millisecond

// watching starts a watcher that is quick to answer and returns the channel of its calls.
func watching(t *testing.T, since Snapshot) <-chan struct{} {
	t.Helper()
	events, err := fsnotify.NewWatcher()
	check(t, err)
	return running(t, func(ctx context.Context, onChange func()) error {
		defer events.Close()
		(&watcher{events: events, last: since, onChange: onChange, quiet: shortQuiet, poll: time.Hour}).run(ctx)
		return nil
	})
}

func running(t *testing.T, watch func(context.Context, func()) error) <-chan struct{} {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	changes, done := make(chan struct{}, 100), make(chan error, 1)
	go func() { done <- watch(ctx, func() { changes <- struct{}{} }) }()
	t.Cleanup(func() {
		cancel()
		check(t, <-done)
	})
	return changes
}

func expectChange(t *testing.T, changes <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-changes:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s was not seen", what)
	}
}

func expectQuiet(t *testing.T, changes <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-changes:
		t.Fatalf("%s was told as a change", what)
	case <-time.After(4 * shortQuiet):
	}
}

func TestWatchFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := put(t, dir, "a.yaml", "1", 0o600)
	changes := watching(t, TakeSnapshot(name))
	expectQuiet(t, changes, "the start")

	put(t, dir, "a.yaml", "2", 0o600)
	expectChange(t, changes, "a write")
	check(t, os.Rename(put(t, dir, "tmp", "3", 0o600), name))
	expectChange(t, changes, "a rename over the file")
	check(t, os.Remove(name))
	expectChange(t, changes, "a removal")
	put(t, dir, "a.yaml", "3", 0o600)
	expectChange(t, changes, "a new file")
	check(t, os.Chmod(name, 0o640))
	expectChange(t, changes, "a change of mode")
	put(t, dir, "other.yaml", "x", 0o600)
	check(t, os.Chtimes(name, time.Time{}, time.Now().Add(time.Hour)))
	expectQuiet(t, changes, "a neighbour and a touch")
}

func TestWatchDebounces(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := put(t, dir, "a.yaml", "", 0o600)
	changes := watching(t, TakeSnapshot(name))
	expectQuiet(t, changes, "the start")
	for i := range 20 {
		put(t, dir, "a.yaml", string(rune('a'+i)), 0o600)
		time.Sleep(shortQuiet / 20)
	}
	expectChange(t, changes, "a series of writes")
	expectQuiet(t, changes, "the end of a series")
}

// TestWatch runs the exported function with its real times.
func TestWatch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	since := TakeSnapshot(put(t, dir, "a.yaml", "1", 0o600))
	changes := running(t, func(ctx context.Context, onChange func()) error { return Watch(ctx, since, onChange) })
	expectQuiet(t, changes, "the start")
	put(t, dir, "a.yaml", "2", 0o600)
	expectChange(t, changes, "a write")
}

// TestWatchBesideABusyFile: a log in the same folder does not hide a change.
func TestWatchBesideABusyFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	changes := watching(t, TakeSnapshot(put(t, dir, "a.yaml", "1", 0o600)))
	expectQuiet(t, changes, "the start")
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(shortQuiet / 8):
				_ = os.WriteFile(filepath.Join(dir, "log"), nil, 0o600)
			}
		}
	}()
	put(t, dir, "a.yaml", "2", 0o600)
	select {
	case <-changes:
	case <-time.After(5 * time.Second):
		t.Error("the change was put off for ever")
	}
	close(stop)
	<-done
}

// TestWatchPolls: without a single event the change is seen all the same.
func TestWatchPolls(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	since := TakeSnapshot(put(t, dir, "a.yaml", "1", 0o600))
	deaf, err := fsnotify.NewWatcher()
	check(t, err)
	check(t, deaf.Close()) // every Add fails, no event comes
	deaf.Events, deaf.Errors = nil, nil
	changes := running(t, func(ctx context.Context, onChange func()) error {
		(&watcher{events: deaf, last: since, onChange: onChange, quiet: time.Hour, poll: shortQuiet}).run(ctx)
		return nil
	})
	expectQuiet(t, changes, "the start")
	put(t, dir, "a.yaml", "2", 0o600)
	expectChange(t, changes, "a write without an event")
}

// TestWatchMissedChange: what changed between the load and the watch is told.
func TestWatchMissedChange(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	since := TakeSnapshot(put(t, dir, "a.yaml", "1", 0o600))
	put(t, dir, "a.yaml", "2", 0o600)
	expectChange(t, watching(t, since), "a change before the watch")
}

func TestWatchFolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "policy")
	put(t, dir, "a.yaml", "1", 0o600)
	changes := watching(t, TakeSnapshot(dir))
	expectQuiet(t, changes, "the start")

	put(t, dir, "b.yaml", "1", 0o600)
	expectChange(t, changes, "a new file")
	put(t, dir, "team/c.yaml", "1", 0o600)
	expectChange(t, changes, "a new folder")
	put(t, dir, "team/c.yaml", "2", 0o600)
	expectChange(t, changes, "a write in a new folder")
	check(t, os.RemoveAll(dir))
	expectChange(t, changes, "the end of the folder")
	put(t, dir, "a.yaml", "1", 0o600)
	expectChange(t, changes, "the folder's return")
	put(t, dir, "a.yaml", "2", 0o600)
	expectChange(t, changes, "a write after the return")
}

// swap publishes a new version the way that the kubelet does: a new folder, and a link
// that is renamed over ..data in one step.
func swap(t *testing.T, volume, version, content string) {
	t.Helper()
	put(t, volume, "..v"+version+"/policy.yaml", content, 0o644)
	tmp := filepath.Join(volume, "..data_tmp")
	check(t, os.Symlink("..v"+version, tmp))
	old, _ := os.Readlink(filepath.Join(volume, "..data"))
	check(t, os.Rename(tmp, filepath.Join(volume, "..data")))
	if old != "" {
		check(t, os.RemoveAll(filepath.Join(volume, old)))
	}
}

func TestWatchKubernetesVolume(t *testing.T) {
	t.Parallel()
	paths := map[string]func(volume string) string{
		"file":   func(volume string) string { return filepath.Join(volume, "policy.yaml") },
		"folder": func(volume string) string { return volume },
		"link": func(volume string) string {
			linked := filepath.Join(t.TempDir(), "linked.yaml")
			check(t, os.Symlink(filepath.Join(volume, "policy.yaml"), linked))
			return linked
		},
	}
	for name, path := range paths {
		volume := t.TempDir()
		swap(t, volume, "1", "one")
		check(t, os.Symlink("..data/policy.yaml", filepath.Join(volume, "policy.yaml")))
		watched := path(volume)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changes := watching(t, TakeSnapshot(watched))
			expectQuiet(t, changes, "the start")
			swap(t, volume, "2", "two")
			expectChange(t, changes, "the first swap")
			swap(t, volume, "3", "three")
			expectChange(t, changes, "the second swap")
			swap(t, volume, "4", "three")
			expectQuiet(t, changes, "a swap without a change")
		})
	}
}

func TestWatchFileThatIsNotThereYet(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "late", "a.yaml")
	changes := watching(t, TakeSnapshot(name))
	expectQuiet(t, changes, "the start")
	put(t, dir, "late/a.yaml", "1", 0o600)
	expectChange(t, changes, "the file's coming")
}

// TestSnapshotEndsInCircles: links in a circle cost no more than the folders.
func TestSnapshotEndsInCircles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, a := range []string{"a", "b", "c", "d", "e"} {
		put(t, dir, a+"/x.yaml", a, 0o600)
		for _, b := range []string{"a", "b", "c", "d", "e"} {
			check(t, os.Symlink(filepath.Join(dir, b), filepath.Join(dir, a, "to-"+b)))
		}
	}
	before := TakeSnapshot(dir)
	if !before.equal(before.now()) {
		t.Error("two snapshots of the same folder differ")
	}
	put(t, dir, "e/x.yaml", "changed", 0o600)
	if before.equal(before.now()) {
		t.Error("the change is not seen")
	}
}
