// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/policy"
	"github.com/egret-proxy/egret/policy/operation"
)

// withOperations gives the echo destination an extractor, and its rule operations.
func withOperations(kind, field string, ops ...string) option {
	return withPolicy(func(s *policy.Set) {
		s.Destinations[0].Operation, _ = operation.New(kind, field)
		s.Rules[0].Operations = ops
	})
}

// post sends a body of a type and returns the status with the reason of a refusal.
func post(t *testing.T, w *world, c *http.Client, contentType, body string) (*http.Response, string) {
	t.Helper()
	r := request(t, "POST", "https://"+echoHost+"/graphql", strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	resp := do(t, c, r)
	return resp, readAll(t, resp)
}

// readAll is body, where a parameter has that name.
func readAll(t testing.TB, resp *http.Response) string { return body(t, resp) }

func digest(s string) string { d := sha256.Sum256([]byte(s)); return hex.EncodeToString(d[:]) }

func TestMUST_H15_OperationsAreReadAndTheBodyIsReplayed(t *testing.T) {
	w := newWorld(t, withOperations(operation.GraphQL, "", "query:*", "mutation:addStar"))
	both(t, w, func(t *testing.T, c *http.Client) {
		for text, op := range map[string]string{
			`{"query":"{ viewer { login } }"}`:                                          "query:viewer",
			`{"query":"{ a b }"}`:                                                       "query:a,query:b",
			`{"query":"mutation { addStar(x: 1) { id } }"}`:                             "mutation:addStar",
			`{"query":"{ a }","variables":{"x":"` + strings.Repeat("y", 60<<10) + `"}}`: "query:a",
		} {
			resp, answer := post(t, w, c, "application/json", text)
			if resp.StatusCode != 200 {
				t.Fatalf("%.40s: %d %s", text, resp.StatusCode, answer)
			}
			if rep := report(t, answer); rep.BodySHA256 != digest(text) || rep.Length != int64(len(text)) {
				t.Errorf("%.40s: %d bytes arrived, digest differs or length %d", text, rep.BodyBytes, rep.Length)
			}
			if rec := w.recordOf(resp); rec.Operation != op || rec.Verdict != "allow" || rec.BytesIn != int64(len(text)) {
				t.Errorf("record %+v", rec)
			}
		}
	})
}

func TestMUST_H15_WithoutAnAnswerThereIsADenial(t *testing.T) {
	w := newWorld(t, withOperations(operation.GraphQL, "", "query:viewer"))
	const ok = `{"query":"{ viewer }"}`
	both(t, w, func(t *testing.T, c *http.Client) {
		for name, x := range map[string]struct{ contentType, body string }{
			"another operation": {"application/json", `{"query":"mutation { deleteAll }"}`},
			"one of two":        {"application/json", `{"query":"{ viewer other }"}`},
			"alias":             {"application/json", `{"query":"{ viewer: other }"}`},
			"batch":             {"application/json", "[" + ok + "]"},
			"twice":             {"application/json", `{"query":"{ viewer }","query":"mutation { deleteAll }"}`},
			"trailing":          {"application/json", ok + ok},
			"no type":           {"", ok},
			"another type":      {"text/plain", ok},
			"no JSON":           {"application/json", "{"},
			"too long":          {"application/json", ok + strings.Repeat(" ", operation.MaxBody)},
			"empty":             {"application/json", ""},
		} {
			resp, answer := post(t, w, c, x.contentType, x.body)
			if p := problemOf(t, answer); resp.StatusCode != 403 || p.Reason != "operation_not_allowed" {
				t.Errorf("%s: %d %s", name, resp.StatusCode, answer)
			}
			rec := w.recordOf(resp)
			if rec.Verdict != "deny" || strings.Contains(rec.Detail, "deleteAll") {
				t.Errorf("%s: record %+v", name, rec)
			}
			if told := strings.Contains(rec.Detail, "cannot be told"); told == (rec.Operation != "") {
				t.Errorf("%s: operation %q, detail %q", name, rec.Operation, rec.Detail)
			}
		}
	})
	w.untouched()
}

// What goes on must be what was read: headers that say how to read it must not go away.
func TestMUST_H15_HeadersThatAreTakenAwayTellNothing(t *testing.T) {
	w := newWorld(t, withOperations(operation.GraphQL, "", "query:viewer"))
	const text = `{"query":"{ viewer }"}`
	for name, extra := range map[string]string{
		"listed in Connection": "Connection: content-type\r\nContent-Type: application/json\r\n",
		"two types":            "Content-Type: application/json\r\nContent-Type: application/graphql\r\n",
		"underscore":           "Content-Type: application/json\r\nContent_Type: application/graphql\r\n",
		"compressed":           "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
	} {
		answer := w.raw(fmt.Sprintf("POST /graphql HTTP/1.1\r\nHost: %s\r\n%sContent-Length: %d\r\n\r\n%s", echoHost, extra, len(text), text))
		if !strings.HasPrefix(answer, "HTTP/1.1 403") || !strings.Contains(answer, "operation_not_allowed") {
			t.Errorf("%s: %s", name, answer)
		}
	}
	w.untouched()
}

// A body is read before the decision only where the decision hangs on it.
func TestMUST_H9_H15_OtherBodiesAreNotReadAhead(t *testing.T) {
	w := newWorld(t, withPolicy(func(s *policy.Set) {
		s.Destinations[0].Operation, _ = operation.New(operation.GraphQL, "")
		narrow := *s.Rules[0]
		narrow.PathTemplate, narrow.Operations = "/graphql", []string{"query:viewer"}
		s.Rules[0].PathTemplate, s.Rules[0].Methods = "/upload/**", []string{"POST"}
		s.Rules = append(s.Rules, &narrow)
	}))
	both(t, w, func(t *testing.T, c *http.Client) {
		text := strings.Repeat("x", 3*operation.MaxBody)
		resp := do(t, c, request(t, "POST", "https://"+echoHost+"/upload/1", strings.NewReader(text)))
		if rep := report(t, body(t, resp)); rep.BodySHA256 != digest(text) {
			t.Errorf("%d bytes arrived", rep.BodyBytes)
		}
		if rec := w.recordOf(resp); rec.Operation != "" {
			t.Errorf("record %+v", rec)
		}
	})
	answer := w.raw("POST /elsewhere HTTP/1.1\r\nHost: " + echoHost + "\r\nExpect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 403") { // no 100: the path decides
		t.Errorf("%s", answer)
	}
}

func TestMUST_H9_H15_AClientThatWaitsIsAskedForWhatMustBeRead(t *testing.T) {
	w := newWorld(t, withOperations(operation.GraphQL, "", "query:viewer"))
	for text, want := range map[string]string{`{"query":"{ viewer }"}`: "200", `{"query":"{ other }"}`: "403"} {
		tc := w.inside(echoHost+":443", echoHost)
		_, _ = fmt.Fprintf(tc, "POST /graphql HTTP/1.1\r\nHost: %s\r\nExpect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", echoHost, len(text))
		_ = tc.SetReadDeadline(time.Now().Add(5 * time.Second))
		br := bufio.NewReader(tc)
		line, err := br.ReadString('\n')
		if err != nil || !strings.Contains(line, " 100 ") {
			t.Fatalf("%q, %v", line, err)
		}
		_, _ = br.ReadString('\n')
		_, _ = io.WriteString(tc, text)
		resp, err := http.ReadResponse(br, nil)
		for err == nil && resp.StatusCode == 100 {
			resp, err = http.ReadResponse(br, nil)
		}
		if err != nil || !strings.HasPrefix(resp.Status, want) {
			t.Errorf("%s: %v, %v", text, resp, err)
		}
	}
}

// A client that never sends what must be read holds no credential and no connection.
func TestMUST_H15_AClientThatLeavesIsNotTakenForADenial(t *testing.T) {
	w := newWorld(t, withOperations(operation.GraphQL, "", "query:viewer"))
	tc := w.inside(echoHost+":443", echoHost)
	_, _ = fmt.Fprintf(tc, "POST /graphql HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", echoHost)
	time.Sleep(50 * time.Millisecond)
	_ = tc.Close()
	if rec := w.wait(1, any1)[0]; rec.Layer != "client" {
		t.Errorf("record %+v", rec)
	}
	w.untouched()
}

func TestMUST_H15_ObservedRequestsPassAndSayWhatTheyAre(t *testing.T) {
	w := newWorld(t, withPolicy(func(s *policy.Set) {
		s.Destinations[0].Operation, _ = operation.New(operation.JSONRPC, "")
		s.Rules[0].Operations, s.Rules[0].Observe = []string{"tools/call:search"}, true
	}))
	long := `{"jsonrpc":"2.0","method":"tools/list","id":"` + strings.Repeat("x", 2*operation.MaxBody) + `"}`
	both(t, w, func(t *testing.T, c *http.Client) {
		for text, verdict := range map[string]string{
			`{"jsonrpc":"2.0","method":"tools/call","params":{"name":"search"}}`: "allow",
			`{"jsonrpc":"2.0","method":"tools/call","params":{"name":"delete"}}`: "deny",
			long: "deny",
		} {
			r := request(t, "POST", "https://"+echoHost+"/mcp", strings.NewReader(text))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Authorization", "Bearer "+w.tokens.Issue([]string{"echo"}, time.Hour).Reveal())
			resp := do(t, c, r)
			if rep := report(t, body(t, resp)); rep.BodySHA256 != digest(text) {
				t.Errorf("%.60s: %d bytes arrived", text, rep.BodyBytes)
			}
			if rec := w.recordOf(resp); rec.Verdict != verdict || !rec.Observed {
				t.Errorf("%.60s: record %+v", text, rec)
			}
		}
	})
}

func TestMUST_H11_MintingIsDeniedUnlessThePolicyNamesIt(t *testing.T) {
	for _, granted := range []bool{false, true} {
		w := newWorld(t, withPolicy(func(s *policy.Set) {
			if granted {
				s.Rules[0].Minting = []string{"github-app-token", "oauth-token", "vault-token"}
			}
		}))
		both(t, w, func(t *testing.T, c *http.Client) {
			for _, path := range []string{
				"/app/installations/7/access_tokens", "/App/Installations/7/Access_Tokens/", "/app/installations/7/access%5ftokens", "/oauth2/token", "/v1/auth/token/create",
			} {
				resp := do(t, c, request(t, "POST", "https://"+echoHost+path, strings.NewReader("x")))
				text := body(t, resp)
				if granted {
					if resp.StatusCode != 200 {
						t.Errorf("%s: granted, and %d %s", path, resp.StatusCode, text)
					}
					continue
				}
				if p := problemOf(t, text); resp.StatusCode != 403 || p.Reason != "minting_not_allowed" {
					t.Errorf("%s: %d %s", path, resp.StatusCode, text)
				}
				if rec := w.recordOf(resp); rec.Reason != "minting_not_allowed" || !strings.Contains(rec.Detail, "built-in list") || rec.Policy == "" {
					t.Errorf("%s: record %+v", path, rec)
				}
			}
			if resp, _ := w.get(c, "https://"+echoHost+"/app/installations"); resp.StatusCode != 200 {
				t.Errorf("another call: %s", resp.Status)
			}
		})
		if !granted && len(w.echo.Reports()) != 2 {
			t.Errorf("%d requests arrived", len(w.echo.Reports()))
		}
	}
}

// Without a credential of egret there is nothing to turn into another.
func TestMUST_H11_RoutesWithoutACredentialAreNotGuarded(t *testing.T) {
	w := newWorld(t, withPolicy(func(s *policy.Set) { s.Rules[0].Credential = nil }))
	resp := do(t, w.client("sidecar"), request(t, "POST", "https://"+echoHost+"/oauth2/token", nil))
	_ = body(t, resp)
	if resp.StatusCode != 401 { // the twin's own
		t.Errorf("%s", resp.Status)
	}
}

// At AWS what mints stands behind POST /: the guard reads it even where no rule does.
func TestMUST_H11_TheGuardReadsAWS(t *testing.T) {
	const sts = "sts.eu-west-1.amazonaws.com"
	w := newWorld(t, withPolicy(func(s *policy.Set) { s.Destinations[0].Hosts = append(s.Destinations[0].Hosts, sts) }))
	p := w.policy.Load()
	for text, want := range map[string]policy.Reason{
		"Action=GetCallerIdentity&Version=2011-06-15": "",
		"Action=AssumeRole&RoleArn=x":                 policy.ReasonMintingNotAllowed,
		"Action=GetCallerIdentity&Action=AssumeRole":  policy.ReasonMintingNotAllowed,
		"nothing": policy.ReasonMintingNotAllowed,
	} {
		r := policy.Request{ID: spiffeid.RequireFromString(jobID), Evidence: "sidecar", Target: policy.Target{Host: sts, Port: 443}, Method: "POST", Path: "/", At: time.Now()}
		d := p.Request(r)
		if d.Verdict != policy.Deny || d.Extract == nil {
			t.Fatalf("unread: %+v", d)
		}
		r.Operations, _ = d.Extract.Extract(&operation.Request{Method: "POST", Host: sts, Path: "/", Body: []byte(text),
			Header: map[string][]string{"Content-Type": {"application/x-www-form-urlencoded"}}})
		r.Read = true
		if d := p.Request(r); d.Reason != want || (d.Verdict == policy.Allow) != (want == "") {
			t.Errorf("%s: %+v", text, d)
		}
	}
}
