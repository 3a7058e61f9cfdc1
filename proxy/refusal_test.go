// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bufio"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/policy"
)

func TestEveryReasonHasWords(t *testing.T) {
	seen := map[policy.Reason]bool{}
	code := regexp.MustCompile(`^[a-z-]+/[a-z_]+$`)
	for _, i := range Reasons() {
		if seen[i.Reason] || !code.MatchString(string(i.Reason)) {
			t.Errorf("%q is doubled or malformed", i.Reason)
		}
		seen[i.Reason] = true
		if i.Title == "" || i.Hint == "" || strings.HasSuffix(i.Title, ".") || i.Status != 0 && http.StatusText(i.Status) == "" {
			t.Errorf("%+v", i)
		}
	}
	for _, r := range []policy.Reason{
		policy.ReasonUnknownWorkload, policy.ReasonUnlistedHost, policy.ReasonNotLoaded, policy.ReasonNoPolicy, policy.ReasonMethodNotAllowed,
		policy.ReasonPathNotAllowed, policy.ReasonOperationNotAllowed, policy.ReasonAmbiguousPath, policy.ReasonWeakEvidence, policy.ReasonExpired,
		policy.ReasonOutsideSchedule, reasonRate, reasonNoLeaf, reasonNoCommonProto,
	} {
		if !seen[r] {
			t.Errorf("%s has no words", r)
		}
	}
	if i := info("made/up"); i.Status != 403 || i.Title == "" {
		t.Errorf("an unlisted reason: %+v", i)
	}
	all := Reasons()
	if all[0].Title = "changed"; Reasons()[0].Title == "changed" {
		t.Error("the caller got the table itself")
	}
}

// Every refusal, in each of its three forms, is well-formed and says nothing of why in
// other words than its own.
func TestRefusalsTellTheirReasonAndNothingElse(t *testing.T) {
	hostile := errors.New("dial 10.1.2.3: token=xoxb-secret\r\nX-Injected: 1")
	for _, i := range Reasons() {
		ref := refuse(i.Reason, hostile)
		for form, r := range map[string]*http.Request{
			"http": httptest.NewRequest("POST", "/p?token=xoxb-secret", nil), "head": httptest.NewRequest("HEAD", "/", nil),
			"grpc": httptest.NewRequest("POST", "/svc/Method", nil),
		} {
			r.Header.Set("Authorization", "Bearer xoxb-secret")
			if form == "grpc" {
				r.Header.Set("Content-Type", "application/grpc+proto")
			}
			w := httptest.NewRecorder()
			w.Header().Set("Set-Cookie", "left over")
			status := writeRefusal(w, r, ref, "id1")
			checkRefusal(t, i, form, w, status)
		}
		conn := &memConn{}
		writeRawRefusal(conn, ref, orInt(i.Status, 503), "id1")
		resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(conn.String())), nil)
		if err != nil || resp.Status != fmt.Sprintf("%d egret %s id=id1", orInt(i.Status, 503), i.Reason) || strings.Contains(conn.String(), "xoxb") {
			t.Errorf("%s on CONNECT: %v %q", i.Reason, err, conn.String())
		}
	}
}

func checkRefusal(t *testing.T, i ReasonInfo, form string, w *httptest.ResponseRecorder, status int) {
	t.Helper()
	h := w.Header()
	if h.Get("Egret-Decision") != i.Reason.Layer()+"; reason="+i.Reason.Code()+"; id=id1" || !strings.HasPrefix(h.Get("Proxy-Status"), "egret; error=") || h.Get("Cache-Control") != "no-store" || h.Get("Set-Cookie") != "" {
		t.Errorf("%s %s: header %v", i.Reason, form, h)
	}
	if strings.Contains(fmt.Sprint(h, w.Body), "xoxb") || strings.Contains(fmt.Sprint(h, w.Body), "10.1.2.3") {
		t.Errorf("%s %s leaks: %v %s", i.Reason, form, h, w.Body)
	}
	switch form {
	case "grpc":
		if status != 200 || h.Get("Grpc-Status") == "" || h.Get("Grpc-Status") == "0" || !strings.Contains(h.Get("Grpc-Message"), string(i.Reason)) {
			t.Errorf("%s: %d %v", i.Reason, status, h)
		}
	case "head":
		if w.Body.Len() != 0 {
			t.Errorf("%s: HEAD got %q", i.Reason, w.Body)
		}
	default:
		var p problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != status || p.ID != "id1" || p.Title != i.Title || p.Type != "https://egret.dev/reasons/"+string(i.Reason) {
			t.Errorf("%s: %v %s", i.Reason, err, w.Body)
		}
		if h.Get("Content-Type") != "application/problem+json" || i.Status != 0 && status != i.Status || status < 400 {
			t.Errorf("%s: %d %v", i.Reason, status, h)
		}
	}
}

// AWS's clients find the reason where they look for it, whatever protocol the service has.
func TestRefusalsThatAWSClientsCanRead(t *testing.T) {
	type amz struct {
		XMLName xml.Name
		Code    string `xml:"Code" json:"__type"`
		Message string `xml:"Message" json:"message"`
		Error   struct{ Type, Code, Message string }
		ID      string `xml:"RequestId" json:"id"`
	}
	for _, i := range Reasons() {
		for name, c := range map[string]struct {
			header map[string]string
			root   string // "": JSON
		}{
			"query":         {map[string]string{"X-Amz-Date": "20260101T000000Z", "Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}, "ErrorResponse"},
			"s3":            {map[string]string{"X-Amz-Content-Sha256": "UNSIGNED-PAYLOAD"}, "Error"},
			"json":          {map[string]string{"X-Amz-Target": "DynamoDB_20120810.Scan", "Content-Type": "application/x-amz-json-1.0"}, ""},
			"rest":          {map[string]string{"Amz-Sdk-Invocation-Id": "1"}, ""},
			"signed for S3": {map[string]string{"Authorization": "AWS4-HMAC-SHA256 Credential=A/20260101/eu-central-1/s3/aws4_request, SignedHeaders=host, Signature=0", "X-Amz-Date": "20260101T000000Z"}, "Error"},
			"JavaScript's SDK sends the digest to all": {map[string]string{"Authorization": "AWS4-HMAC-SHA256 Credential=A/20260101/eu-central-1/lambda/aws4_request, SignedHeaders=host, Signature=0", "X-Amz-Content-Sha256": "0"}, ""},
		} {
			r := httptest.NewRequest("POST", "/", nil)
			for k, v := range c.header {
				r.Header.Set(k, v)
			}
			w := httptest.NewRecorder()
			status := writeRefusal(w, r, refuse(i.Reason, errors.New("xoxb")), "id1")
			var got amz
			var err error
			if c.root == "" {
				err = json.Unmarshal(w.Body.Bytes(), &got)
				checkRefusal(t, i, "http", w, status) // a problem document, too
			} else {
				err = xml.Unmarshal(w.Body.Bytes(), &got)
			}
			if c.root == "ErrorResponse" {
				got.Code, got.Message = got.Error.Code, got.Error.Message
				if (got.Error.Type == "Sender") != (status < 500) {
					t.Errorf("%s: %d is the fault of the %s", i.Reason, status, got.Error.Type)
				}
			}
			if err != nil || got.XMLName.Local != c.root || got.Code != "egret/"+string(i.Reason) || !strings.HasPrefix(got.Message, i.Title) ||
				!strings.Contains(got.Message, "id1") || got.ID != "id1" || w.Header().Get("X-Amzn-Errortype") != got.Code {
				t.Errorf("%s %s: %v %v %s", i.Reason, name, err, w.Header(), w.Body)
			}
		}
	}
	r := httptest.NewRequest("POST", "/", nil)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	if writeRefusal(w, r, refuse(reasonMethod, nil), "id1"); w.Header().Get("X-Amzn-Errortype") != "" || strings.Contains(w.Body.String(), "__type") {
		t.Errorf("another client: %v %s", w.Header(), w.Body)
	}
}

// git sends its CONNECT without a credential, reads the 407 and asks again on the same
// connection.
func TestChallengeKeepsTheConnection(t *testing.T) {
	w := newWorld(t)
	conn := w.dialEntrance("jwt")
	connect := "CONNECT " + echoHost + ":443 HTTP/1.1\r\nHost: " + echoHost + ":443\r\n"
	_, _ = io.WriteString(conn, connect+"\r\n")
	head := readHead(conn)
	if !strings.HasPrefix(head, "HTTP/1.1 407") || !strings.Contains(head, "Proxy-Authenticate: Basic realm=") || !strings.Contains(head, "Proxy-Authenticate: Bearer") || strings.Contains(strings.ToLower(head), "connection: close") {
		t.Fatalf("challenge %q", head)
	}
	token := must(w.issuer.MintJWT(spiffeid.RequireFromString(jobID), "egret", time.Minute))(t).Reveal()
	_, _ = io.WriteString(conn, connect+"Proxy-Authorization: Bearer "+token+"\r\n\r\n")
	if head := readHead(conn); !strings.HasPrefix(head, "HTTP/1.1 200") {
		t.Errorf("second try %q", head)
	}
	w.wait(1, func(r record) bool { return r.Status == 407 && r.Reason == "no_evidence" })
}

func TestRefusedConnectHasItsReasonInTheStatusLine(t *testing.T) {
	w := newWorld(t)
	conn, head := w.connect("sidecar", "unlisted.example:443", "")
	line, _, _ := strings.Cut(head, "\r\n")
	if !regexp.MustCompile(`^HTTP/1\.1 403 egret target/unlisted_host id=[a-z2-9]{16}$`).MatchString(line) {
		t.Errorf("status line %q", line)
	}
	b, err := io.ReadAll(conn)
	if p := problemOf(t, string(b)); err != nil || p.Reason != "unlisted_host" || !strings.Contains(line, p.ID) {
		t.Errorf("body %q %v", b, err)
	}
	w.wait(1, func(r record) bool { return r.Status == 403 && strings.Contains(line, r.ID) })
}

func TestClientWithoutOurCAIsInTheRecords(t *testing.T) {
	w := newWorld(t)
	c := w.client("sidecar", func(tr *http.Transport) { tr.TLSClientConfig.RootCAs = w.ca.Pool() })
	if _, err := c.Get("https://" + echoHost + "/"); err == nil {
		t.Fatal("the client trusts us")
	}
	w.wait(1, func(r record) bool {
		return r.Kind == "handshake" && r.Layer == "client" && r.Reason == "untrusted_ca" && r.Workload == jobID
	})
}
