// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/egret-proxy/egret/audit"
)

// calls collects what is recorded.
type calls struct {
	mu  sync.Mutex
	all []AdminCall
}

func (c *calls) record(call AdminCall) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, call)
}

// take returns what was recorded since the last take.
func (c *calls) take() []AdminCall {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.all
	c.all = nil
	return all
}

type revocation struct {
	Workload string `json:"workload"`
}

// startAdmin serves an Admin with a few routes.
func startAdmin(t *testing.T, socket string, uids ...int) *calls {
	t.Helper()
	c := &calls{}
	a, err := NewAdmin(AdminOptions{Socket: socket, UIDs: uids, Record: c.record})
	if err != nil {
		t.Fatal(err)
	}
	a.Handle("POST /v1/revoke", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			WriteError(w, http.StatusRequestEntityTooLarge, "too large")
			return
		}
		p, ok := PeerFrom(r.Context())
		WriteJSON(w, map[string]any{"got": string(b), "uid": p.UID, "known": ok})
	}))
	a.Handle("GET /v1/panic", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a secret") }))
	a.Handle("GET /v1/half", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic("a secret")
	}))
	a.Handle("GET /v1/silent/{id}", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	ln, err := a.Listen()
	if err != nil {
		t.Fatal(err)
	}
	serve(t, a, ln)
	return c
}

func TestMUST_P5_EveryCallIsRecorded(t *testing.T) {
	socket := filepath.Join(shortDir(t), "s")
	recorded := startAdmin(t, socket)
	uid, pid := uint32(os.Getuid()), int32(os.Getpid())
	for name, tc := range map[string]struct {
		call   Call
		status int
		path   string
		patt   string
		msg    string
	}{
		"served":    {Call{Method: "POST", Path: "/v1/revoke?token=hush"}, 200, "/v1/revoke", "POST /v1/revoke", ""},
		"silent":    {Call{Method: "GET", Path: "/v1/silent/7"}, 200, "/v1/silent/7", "GET /v1/silent/{id}", ""},
		"not there": {Call{Method: "GET", Path: "/v1/other"}, 404, "/v1/other", "", `no admin call GET "/v1/other"`},
		"no method": {Call{Method: "PUT", Path: "/v1/revoke"}, 405, "/v1/revoke", "", `no admin call PUT "/v1/revoke"`},
		"panics":    {Call{Method: "GET", Path: "/v1/panic"}, 500, "/v1/panic", "GET /v1/panic", "the call failed inside egret: see its log"},
		"too large": {Call{Method: "POST", Path: "/v1/revoke", In: strings.Repeat("x", maxAdminBody)}, 413, "/v1/revoke", "POST /v1/revoke", "too large"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Do(t.Context(), Dial(socket), tc.call)
			got := waitCalls(t, recorded)
			want := []AdminCall{{Peer: Peer{uid, pid}, Method: tc.call.Method, Path: tc.path, Pattern: tc.patt, Status: tc.status}}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(AdminCall{}, "ID", "Time", "Duration")); diff != "" {
				t.Error(diff)
			}
			var ce *CallError
			if tc.msg == "" && err != nil || tc.msg != "" && !errors.As(err, &ce) {
				t.Fatalf("error %v", err)
			}
			if tc.msg != "" && (ce.Message != tc.msg || ce.Status != tc.status || ce.ID != got[0].ID) {
				t.Errorf("%+v, want %q and id %s", ce, tc.msg, got[0].ID)
			}
		})
	}
}

// waitCalls waits for the record, which is written after the answer.
func waitCalls(t *testing.T, c *calls) []AdminCall {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if got := c.take(); len(got) > 0 {
			return got
		}
	}
	t.Fatal("nothing was recorded")
	return nil
}

func TestCallGoesInAndOut(t *testing.T) {
	socket := filepath.Join(shortDir(t), "s")
	startAdmin(t, socket)
	var out struct {
		Got   string
		UID   int
		Known bool
	}
	err := Do(t.Context(), Dial(socket), Call{Method: "POST", Path: "/v1/revoke", In: revocation{"w"}, Out: &out})
	if err != nil || out.Got != `{"workload":"w"}` || out.UID != os.Getuid() || !out.Known {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestHalfAnAnswerIsCutOff(t *testing.T) {
	socket := filepath.Join(shortDir(t), "s")
	recorded := startAdmin(t, socket)
	var out any
	if err := Do(t.Context(), Dial(socket), Call{Method: "GET", Path: "/v1/half", Out: &out}); err == nil {
		t.Errorf("took %v for an answer", out)
	}
	if got := waitCalls(t, recorded); len(got) != 1 || got[0].Status != 200 {
		t.Errorf("recorded %+v", got)
	}
}

// callAs calls /v1/revoke as another user, in a child process, and returns what that
// was told.
func callAs(t *testing.T, uid uint32, socket string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can start a process of another user")
	}
	dir := filepath.Dir(socket)
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Skip("no /proc: ", err)
	}
	bin := filepath.Join(dir, "client")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(bin, self, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), bin)
	cmd.Dir = dir
	cmd.Env = []string{callEnv + "=" + socket}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestMUST_P5_OtherUsersAreRefused(t *testing.T) {
	socket := filepath.Join(shortDir(t), "s")
	recorded := startAdmin(t, socket, 4243)
	if got, want := callAs(t, 4242, socket), "egret answered 403: uid 4242 may not use the admin socket: add it to admin.uids"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
	got := waitCalls(t, recorded)
	want := []AdminCall{{Method: "POST", Path: "/v1/revoke", Status: 403, Refused: RefusedUID, Peer: Peer{UID: 4242}}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(AdminCall{}, "ID", "Time", "Duration"), cmpopts.IgnoreFields(Peer{}, "PID")); diff != "" {
		t.Error(diff)
	}
}

func TestMUST_P5_ConfiguredUsersAreServed(t *testing.T) {
	socket := filepath.Join(shortDir(t), "s")
	recorded := startAdmin(t, socket, 4243)
	if got := callAs(t, 4243, socket); got != "<nil>" {
		t.Errorf("told %q", got)
	}
	if got := waitCalls(t, recorded); len(got) != 1 || got[0].Status != 200 || got[0].Peer.UID != 4243 {
		t.Errorf("recorded %+v", got)
	}
}

func TestMUST_P5_SocketModeLocksOthersOut(t *testing.T) {
	socket := filepath.Join(shortDir(t), "s")
	startAdmin(t, socket)
	fi, err := os.Stat(socket)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", fi.Mode(), err)
	}
	if got := callAs(t, 4242, socket); !strings.Contains(got, "may not be opened by this user: run as root or as egret's user") {
		t.Errorf("told %q", got)
	}
}

func TestMUST_P5_UnknownPeerIsRefused(t *testing.T) {
	c := &calls{}
	a, err := NewAdmin(AdminOptions{Record: c.record})
	if err != nil {
		t.Fatal(err)
	}
	a.Handle("/", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("served") }))
	for name, ctx := range map[string]context.Context{
		"no peer":      t.Context(),
		"kernel error": context.WithValue(t.Context(), peerKey{}, connPeer{err: errNotUnix}), // the zero Peer would be root
	} {
		req, _ := http.NewRequestWithContext(ctx, "GET", "/v1/x", nil)
		w := answerRequest(a, req)
		if w.Code != 403 {
			t.Errorf("%s: status %d", name, w.Code)
		}
		if got := c.take(); len(got) != 1 || got[0].Refused != RefusedPeer || got[0].Peer.UID == 0 {
			t.Errorf("%s: recorded %+v", name, got)
		}
	}
}

func TestMUST_P5_AdminIsServedOnUnixSocketsOnly(t *testing.T) {
	a, err := NewAdmin(AdminOptions{Record: func(AdminCall) {}})
	if err != nil {
		t.Fatal(err)
	}
	ln := loopback(t)
	if err := a.Serve(ln); !errors.Is(err, errNotUnix) {
		t.Errorf("Serve on TCP: %v", err)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener was left open: %v", err)
	}
}

func TestAdminOptionFaults(t *testing.T) {
	record := func(AdminCall) {}
	for name, tc := range map[string]struct {
		o    AdminOptions
		want string
	}{
		"nobody records": {AdminOptions{}, "admin: calls have to be recorded, and there is nobody to record them"},
		"negative":       {AdminOptions{Record: record, UIDs: []int{1000, -1}}, "admin: uids[1] is -1: not a uid"},
		"nobody": {AdminOptions{Record: record, UIDs: []int{65534}},
			"admin: uids[0] is 65534, which stands for every user that is not mapped into this user namespace"},
	} {
		if _, err := NewAdmin(tc.o); err == nil || err.Error() != tc.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAdminCallBecomesARecord(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	call := AdminCall{ID: "X", Time: now, Duration: time.Millisecond, Peer: Peer{1000, 77}, Method: "POST", Path: "/v1/revoke/a", Pattern: "POST /v1/revoke/{id}", Status: 200}
	want := audit.Record{
		Schema: audit.Schema, Kind: audit.KindAdmin, Time: now, ID: "X", Listener: "admin", Method: "POST",
		PathTemplate: "/v1/revoke/{id}", Status: 200, Verdict: "allow", TTotal: time.Millisecond, Detail: `uid=1000 pid=77 path="/v1/revoke/a"`,
	}
	if diff := cmp.Diff(want, call.Record()); diff != "" {
		t.Error(diff)
	}
	call.Refused, call.Status = RefusedUID, 403
	want.Verdict, want.Layer, want.Reason, want.Status = "deny", "admin", "uid_not_allowed", 403
	if diff := cmp.Diff(want, call.Record()); diff != "" {
		t.Error(diff)
	}
}

// What was not done has a reason; what failed on the way had been allowed.
func TestAdminCallThatWasNotDoneHasItsReason(t *testing.T) {
	for status, want := range map[int]string{
		200: "allow  ", 204: "allow  ", 400: "deny admin bad_request", 404: "deny admin not_found", 405: "deny admin method_not_allowed",
		409: "deny admin conflict", 413: "deny admin request_entity_too_large", 500: "allow admin internal_server_error",
	} {
		r := AdminCall{Status: status}.Record()
		if got := r.Verdict + " " + r.Layer + " " + r.Reason; got != want {
			t.Errorf("%d: %q, want %q", status, got, want)
		}
	}
}

func TestDialErrorsSayWhatToDo(t *testing.T) {
	dir := shortDir(t)
	dead := filepath.Join(dir, "dead")
	leaveSocket(t, dead)
	for name, tc := range map[string]struct{ socket, want string }{
		"missing": {filepath.Join(dir, "none"), `there is no admin socket at "` + dir + `/none": is egret running, and is admin.socket set in its egret.yaml?`},
		"refused": {dead, `nobody listens on the admin socket "` + dead + `": is egret running? The socket is left from one that crashed`},
	} {
		err := Do(t.Context(), Dial(tc.socket), Call{Method: "GET", Path: "/"})
		var de *DialError
		if !errors.As(err, &de) || err.Error() != tc.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDoHonoursItsContext(t *testing.T) {
	socket := filepath.Join(shortDir(t), "s")
	ln, err := net.Listen("unix", socket) // accepts by its backlog, answers nothing
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := Do(ctx, Dial(socket), Call{Method: "GET", Path: "/"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
