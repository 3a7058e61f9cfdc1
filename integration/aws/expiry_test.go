// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration

package aws

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// endSessions makes every session that versitygw's STS has given end now.
func (w *world) endSessions(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(w.file("iam/iam.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]json.RawMessage
	var sessions map[string]map[string]any
	if json.Unmarshal(text, &all) != nil || json.Unmarshal(all["sessions"], &sessions) != nil || len(sessions) == 0 {
		t.Fatalf("no sessions in %d bytes", len(text))
	}
	for _, s := range sessions {
		s["expiration"] = time.Now().Add(-time.Second)
	}
	all["sessions"], _ = json.Marshal(sessions)
	text, _ = json.Marshal(all)
	next := w.file("iam/iam.json.next")
	if err := os.WriteFile(next, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, w.file("iam/iam.json")); err != nil {
		t.Fatal(err)
	}
}

// call makes a request that nobody has signed, and returns the decision and the body.
func call(t *testing.T, c *http.Client, method, url, body string) (status int, decision, text string) {
	t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, url, in)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Egret-Decision"), string(b)
}

// keyIDs are the keys that egret has signed with, in their order.
func (e *egret) keyIDs(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(e.world.file("audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range regexp.MustCompile(`"fingerprint":"(ASIA[A-Z0-9]+)"`).FindAllStringSubmatch(string(text), -1) {
		if len(out) == 0 || out[len(out)-1] != m[1] {
			out = append(out, m[1])
		}
	}
	return out
}

// A session that has ended at the store before its time costs one answer at most: what may
// be repeated is, with a new session, and what may not finds one the next time.
func TestMUST_C7_ASessionThatTheStoreHasEnded(t *testing.T) {
	for name, x := range map[string]struct {
		method, path, body string
		refused            string // errors that the destination names
		status             int
		decision           string
		again              int
	}{
		"read":               {"GET", "/" + bucket + "?list-type=2", "", "InvalidAccessKeyId, InvalidToken, ExpiredToken", 200, "", 200},
		"written":            {"PUT", "/" + bucket + "/key", "hello", "InvalidAccessKeyId, InvalidToken, ExpiredToken", 403, "upstream-auth; reason=credential_refused", 200},
		"errors not spelled": {"GET", "/" + bucket + "?list-type=2", "", "", 403, "", 403},
	} {
		t.Run(name, func(t *testing.T) {
			w, storeAddress, sts := federation(t)
			w.values["Destinations"] = map[string]destination{"store": {
				Host: storeHost, Dial: storeAddress, Provider: w.assume("reports", sts, ""), Service: "s3", Refused: x.refused,
			}}
			w.render(t, "policy.yaml")
			e := w.start(t)
			c, url := e.client(t), "https://"+storeHost+x.path
			if status, _, text := call(t, c, x.method, url, x.body); status != 200 {
				t.Fatalf("%d %s", status, text)
			}
			w.endSessions(t)
			status, decision, text := call(t, c, x.method, url, x.body)
			if status != x.status || !strings.HasPrefix(decision, x.decision) || status == 403 && !strings.Contains(text, "InvalidAccessKeyId") {
				t.Errorf("%d, %q, %s", status, decision, text)
			}
			if status, _, text := call(t, c, x.method, url, x.body); status != x.again {
				t.Errorf("the next call: %d %s", status, text)
			}
			e.settled(t)
			want := 2
			if x.again == 403 {
				want = 1
			}
			if ids := e.keyIDs(t); len(ids) != want {
				t.Errorf("signed with %q", ids)
			}
		})
	}
}

// settled waits until egret has written what it has to write.
func (e *egret) settled(t *testing.T) {
	t.Helper()
	var last int64 = -1
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(300 * time.Millisecond) {
		info, err := os.Stat(e.world.file("audit.jsonl"))
		if err == nil && info.Size() == last {
			return
		}
		if err == nil {
			last = info.Size()
		}
	}
	t.Fatal("egret's records do not end")
}
