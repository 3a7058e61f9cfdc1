// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/aws"
	"github.com/egret-proxy/egret/internal/secret"
	"github.com/egret-proxy/egret/policy"
)

// signing makes a credential that signs for a service in eu-central-1.
func signing(t testing.TB, service string) credential.Credential {
	signer := must(aws.NewSigner(aws.SignerConfig{Service: service, Region: "eu-central-1", MaxBody: 1 << 10}))(t)
	in := must(credential.NewInjection(credential.InjectionConfig{Signer: signer}))(t)
	return must(credential.New(credential.Token{Fingerprint: "AKIAEXAMPLE", Values: map[string]secret.Secret{
		"access_key_id": secret.New("AKIAEXAMPLE"), "secret_access_key": secret.New("hush-hush-hush"),
	}}, []credential.Injection{in}, time.Now().Add(time.Hour)))(t)
}

// store is an upstream that keeps what it got.
type store struct {
	mu     sync.Mutex
	header http.Header
	length int64
	body   string
	err    error
	calls  int
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.header, s.length, s.body, s.err, s.calls = r.Header, r.ContentLength, string(b), err, s.calls+1
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(http.StatusOK)
}

func signingWorld(t *testing.T, service string) (*world, *store) {
	t.Helper()
	s := &store{}
	cred := signing(t, service)
	src := &source{next: func() (credential.Credential, error) { return cred, nil }}
	return newWorld(t, withSource(src), withHandler(s.ServeHTTP)), s
}

const placeholderSignature = "AWS4-HMAC-SHA256 Credential=" + Placeholder + "/20260101/eu-central-1/s3/aws4_request, SignedHeaders=host, Signature=00"

// chunkedUpload is what an SDK sends, with signatures that nobody could have made.
func chunkedUpload(t *testing.T, url, data string) *http.Request {
	t.Helper()
	zeros := strings.Repeat("0", 64)
	text := strconv.FormatInt(int64(len(data)), 16) + ";chunk-signature=" + zeros + "\r\n" + data + "\r\n0;chunk-signature=" + zeros + "\r\n\r\n"
	r := request(t, "PUT", url, strings.NewReader(text))
	r.Header.Set("X-Amz-Content-Sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
	r.Header.Set("X-Amz-Decoded-Content-Length", strconv.Itoa(len(data)))
	r.Header.Set("Content-Encoding", "aws-chunked")
	r.Header.Set("Authorization", placeholderSignature)
	return r
}

func TestChunksAreSignedWhileTheyStream(t *testing.T) {
	w, s := signingWorld(t, "s3")
	both(t, w, func(t *testing.T, c *http.Client) {
		r := chunkedUpload(t, "https://"+otherHost+"/bucket/key", strings.Repeat("a", 100_000))
		resp := do(t, c, r)
		_ = body(t, resp)
		s.mu.Lock()
		defer s.mu.Unlock()
		if resp.StatusCode != 200 || s.length != r.ContentLength || int64(len(s.body)) != r.ContentLength {
			t.Fatalf("%s; %d bytes arrived, declared %d, sent %d", resp.Status, len(s.body), s.length, r.ContentLength)
		}
		if !strings.HasPrefix(s.header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/") || strings.Contains(s.body, ";chunk-signature="+strings.Repeat("0", 64)) {
			t.Errorf("arrived with %q and chunks signed by nobody", s.header.Get("Authorization"))
		}
		if rec := w.recordOf(resp); rec.Fingerprint != "AKIAEXAMPLE" || rec.CallerCredential != "placeholder" {
			t.Errorf("record %+v", rec)
		}
	})
}

// A body that breaks its framing is never taken for a whole one, and its sender is told.
func TestABodyThatCannotBeSignedIsItsSendersFault(t *testing.T) {
	w, s := signingWorld(t, "s3")
	both(t, w, func(t *testing.T, c *http.Client) {
		r := chunkedUpload(t, "https://"+otherHost+"/bucket/key", strings.Repeat("a", 300_000))
		r.Header.Set("X-Amz-Decoded-Content-Length", "300001")
		resp := do(t, c, r)
		if text := body(t, resp); resp.StatusCode != 400 || !strings.Contains(text, "caller_signature") {
			t.Errorf("%s %s", resp.Status, text)
		}
		if rec := w.recordOf(resp); rec.Reason != "caller_signature" || rec.Layer != "target" {
			t.Errorf("record %+v", rec)
		}
		eventually(t, "the upstream sees the upload break off", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.err != nil && !errors.Is(s.err, io.EOF)
		})
	})
}

// What the caller has signed for is compared before anything is sent.
func TestASignatureForAnotherPlaceIsRefused(t *testing.T) {
	w, s := signingWorld(t, "s3")
	for name, change := range map[string]func(*http.Request){
		"region": func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(placeholderSignature, "eu-central-1", "us-east-1", 1))
		},
		"service": func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(placeholderSignature, "/s3/", "/sts/", 1))
		},
		"SigV4A": func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(placeholderSignature, "HMAC-SHA256", "ECDSA-P256-SHA256", 1))
		},
		"events": func(r *http.Request) {
			r.Header.Set("X-Amz-Content-Sha256", "STREAMING-AWS4-HMAC-SHA256-EVENTS")
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(t, "GET", "https://"+otherHost+"/bucket/key", nil)
			change(r)
			resp := do(t, w.client("sidecar"), r)
			if text := body(t, resp); resp.StatusCode != 400 || !strings.Contains(text, "caller_signature") {
				t.Errorf("%s %s", resp.Status, text)
			}
		})
	}
	if s.calls != 0 {
		t.Errorf("%d requests arrived", s.calls)
	}
}

// Other services want the hash of the body: it is held up to a bound, and its length is
// then known.
func TestABodyThatMustBeHashedIsBounded(t *testing.T) {
	w, s := signingWorld(t, "dynamodb")
	both(t, w, func(t *testing.T, c *http.Client) {
		resp := do(t, c, request(t, "POST", "https://"+otherHost+"/", io.MultiReader(strings.NewReader(strings.Repeat("a", 1<<10)))))
		_ = body(t, resp)
		s.mu.Lock()
		if resp.StatusCode != 200 || s.length != 1<<10 || len(s.body) != 1<<10 {
			t.Errorf("%s, %d bytes of %d", resp.Status, len(s.body), s.length)
		}
		calls := s.calls
		s.mu.Unlock()
		resp = do(t, c, request(t, "POST", "https://"+otherHost+"/", strings.NewReader(strings.Repeat("a", 1<<10+1))))
		if p := problemOf(t, body(t, resp)); resp.StatusCode != 400 || p.Reason != "caller_signature" || s.calls != calls {
			t.Errorf("%s %+v", resp.Status, p)
		}
	})
}

// A client that leaves while its body is held is recorded as that.
func TestAClientThatLeavesWhileItsBodyIsHeld(t *testing.T) {
	w, s := signingWorld(t, "dynamodb")
	tc := w.inside(otherHost+":443", otherHost)
	_, _ = io.WriteString(tc, "POST / HTTP/1.1\r\nHost: "+otherHost+"\r\nContent-Length: 100\r\n\r\nthe beginning")
	time.Sleep(50 * time.Millisecond) // with or without, it is told the same
	_ = tc.Close()
	w.wait(1, func(r record) bool { return r.Reason == "closed" && r.Layer == "client" })
	if s.calls != 0 {
		t.Error("it arrived")
	}
}

// A body that is held to be hashed does not hold its request: it ends with its grant.
func TestMUST_I4_ABodyThatIsHeldEndsWithItsGrant(t *testing.T) {
	w, s := signingWorld(t, "dynamodb")
	both(t, w, func(t *testing.T, c *http.Client) {
		w.reload(func(*policy.Set) {})
		pr, pw := io.Pipe()
		defer pw.Close()
		answer := make(chan error, 1)
		go func() {
			resp, err := c.Do(request(t, "POST", "https://"+otherHost+"/", pr))
			if err == nil {
				_ = resp.Body.Close()
			}
			answer <- err
		}()
		if _, err := io.WriteString(pw, "the beginning"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "in flight", func() bool {
			for _, cc := range w.srv.table.all() {
				for _, x := range cc.running() {
					if e, ok := x.(*exchange); ok && e.bodyIn.Load() > 0 {
						return true
					}
				}
			}
			return false
		})
		w.reload(func(s *policy.Set) { s.Rules = nil })
		if n := w.srv.Recheck(); n != 1 {
			t.Fatalf("%d were cut", n)
		}
		select {
		case <-answer:
		case <-time.After(5 * time.Second):
			t.Fatal("the request goes on without its grant")
		}
	})
	if s.calls != 0 {
		t.Error("it arrived")
	}
	w.wait(2, func(r record) bool { return r.Reason == "revoked" })
}
