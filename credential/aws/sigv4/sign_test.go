// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package sigv4

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/egret-proxy/egret/internal/secret"
)

func optionsFor(service string) Options {
	return Options{
		Scope: Scope{service, "eu-central-1"}, Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Keys: Keys{AccessKeyID: "AKIAOURS", SecretAccessKey: secret.New("hush-hush"), SessionToken: secret.New("token-of-ours")},
	}
}

func refused(t *testing.T, err error, want string) {
	t.Helper()
	if r := (*Refusal)(nil); !errors.As(err, &r) || !strings.Contains(err.Error(), want) {
		t.Errorf("%v (%T), want a refusal with %q", err, err, want)
	}
}

// Nothing of the caller's signature is left, however its headers are spelt, and the
// scope is the configured one whatever the caller has put in (the flaw of proxies that
// trust it).
func TestMUST_H2_NothingOfTheCallersSignatureIsLeft(t *testing.T) {
	r := requestOf(t, "GET", "https://b.s3.eu-central-1.amazonaws.com/key")
	mine := "AWS4-HMAC-SHA256 Credential=egret-placeholder/20200101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=00"
	for _, name := range []string{"Authorization", "authorization", "AUTHORIZATION", "X-Amz-Security-Token", "x_amz_security_token", "X_Amz-Date", "X-Amz-Date", "X-Amz-Region-Set", "X-Amz-S3session-Token"} {
		r.Header[name] = []string{mine, "callers"}
	}
	if err := Sign(r, optionsFor("s3")); err != nil {
		t.Fatal(err)
	}
	for name, values := range r.Header {
		if strings.Contains(strings.Join(values, ""), "callers") || strings.Contains(strings.Join(values, ""), "placeholder") {
			t.Errorf("%s: %q", name, values)
		}
	}
	want := http.Header{
		"Authorization":        r.Header["Authorization"],
		"X-Amz-Date":           {"20260102T030405Z"},
		"X-Amz-Security-Token": {"token-of-ours"},
		"X-Amz-Content-Sha256": {emptyHash},
	}
	if d := cmp.Diff(want, r.Header); d != "" {
		t.Errorf("header (-want +got):\n%s", d)
	}
	if got := r.Header.Get("Authorization"); !strings.HasPrefix(got, "AWS4-HMAC-SHA256 Credential=AKIAOURS/20260102/eu-central-1/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token, Signature=") {
		t.Errorf("Authorization: %s", got)
	}
}

// What policy has decided on goes to the wire: signing changes no byte of the URL.
func TestMUST_H6_TheURLIsNotChanged(t *testing.T) {
	for _, target := range []string{"/a%2Fb//c/../d", "/%7Euser/x", "/a(b)", "/ü"} {
		for _, service := range []string{"s3", "execute-api"} {
			r := requestOf(t, "GET", "https://h.example/")
			r.URL.Opaque, r.URL.RawQuery = target, "b=2&a=1&a&x=%7E"
			before := *r.URL
			if err := Sign(r, optionsFor(service)); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(before, *r.URL); d != "" {
				t.Errorf("%s %s: %s", service, target, d)
			}
		}
	}
}

func TestPaths(t *testing.T) {
	for _, tc := range []struct{ wire, s3, others string }{
		{"/", "/", "/"},
		{"/a%20b", "/a%20b", "/a%2520b"},
		{"/a%2fb", "/a%2Fb", "/a%252fb"},
		{"/a//b/./c/../d/", "/a//b/./c/../d/", "/a/b/d/"},
		{"/(x)*", "/%28x%29%2A", "/%28x%29%2A"},
		{"/%28x%29", "/%28x%29", "/%2528x%2529"},
		{"/%7e", "/~", "/%257e"},
		{"/x:y@z", "/x%3Ay%40z", "/x%3Ay%40z"},
		{"/..", "/..", "/"},
		{"/a/..", "/a/..", "/"},
		{"/a/.", "/a/.", "/a/"},
	} {
		s3, err1 := canonicalPath(tc.wire, false)
		others, err2 := canonicalPath(tc.wire, true)
		if s3 != tc.s3 || others != tc.others || err1 != nil || err2 != nil {
			t.Errorf("%s: s3 %s, others %s (%v %v), want %s and %s", tc.wire, s3, others, err1, err2, tc.s3, tc.others)
		}
	}
	for _, bad := range []string{"", "x", "*", "/a+b", "/%zz", "/%2"} {
		_, err := canonicalPath(bad, false)
		refused(t, err, "path")
	}
}

func TestQueries(t *testing.T) {
	for raw, want := range map[string]string{
		"": "", "a": "a=", "a&b": "a=&b=", "b=2&a=1": "a=1&b=2", "a=2&a=10": "a=10&a=2", "&&a=1&": "a=1",
		"q=a+b": "q=a%20b", "q=a%20b": "q=a%20b", "x=%2f": "x=%2F", "k=a=b": "k=a%3Db", "é=1": "%C3%A9=1", "a;b=1": "a%3Bb=1",
	} {
		if got, err := canonicalQuery(raw); got != want || err != nil {
			t.Errorf("%s: %s %v, want %s", raw, got, err, want)
		}
	}
	_, err := canonicalQuery("a=%zz")
	refused(t, err, "percent sign")
}

func TestPayloadModes(t *testing.T) {
	hash := strings.Repeat("ab", 32)
	for name, tc := range map[string]struct {
		service, mode string
		want          string // the hash that is signed, or
		refused       string
	}{
		"hash":                    {"s3", hash, hash, ""},
		"hash, other service":     {"sqs", hash, hash, ""},
		"unsigned":                {"s3", "UNSIGNED-PAYLOAD", "UNSIGNED-PAYLOAD", ""},
		"unsigned, other service": {"es", "UNSIGNED-PAYLOAD", "UNSIGNED-PAYLOAD", ""},
		"trailer":                 {"s3", streamingUnsigned, streamingUnsigned, ""},
		"trailer, other service":  {"sqs", streamingUnsigned, "", "known to S3 only"},
		"chunks, other service":   {"sqs", streamingSigned, "", "known to S3 only"},
		"SigV4A chunks":           {"s3", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "", "SigV4A"},
		"SigV4A trailer":          {"s3", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER", "", "SigV4A"},
		"events":                  {"transcribe", "STREAMING-AWS4-HMAC-SHA256-EVENTS", "", "signed events"},
		"upper case":              {"s3", strings.ToUpper(hash), "", "lower-case hex"},
		"unknown":                 {"s3", "STREAMING-SOMETHING", "", "lower-case hex"},
	} {
		t.Run(name, func(t *testing.T) {
			r := requestOf(t, "PUT", "https://h.example/k")
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader("body")), 4
			r.Header.Set(contentSHA256, tc.mode)
			o := optionsFor(tc.service)
			_ = o.check()
			p, err := payloadOf(r, o)
			early := Check(r, o.Scope)
			if tc.refused != "" {
				refused(t, err, tc.refused)
				refused(t, early, tc.refused)
				return
			}
			if err != nil || early != nil || p.hash != tc.want {
				t.Errorf("%+v %v %v", p, err, early)
			}
		})
	}
}

func TestSignedChunksNeedTheirLength(t *testing.T) {
	for name, change := range map[string]func(*http.Request){
		"none": func(r *http.Request) { r.Header.Del(decodedContentLength) }, "negative": func(r *http.Request) { r.Header.Set(decodedContentLength, "-1") },
		"twice": func(r *http.Request) { r.Header.Add(decodedContentLength, "4") }, "absurd": func(r *http.Request) { r.Header.Set(decodedContentLength, "9999999999999999999") },
		"no body": func(r *http.Request) { r.Body = nil },
	} {
		t.Run(name, func(t *testing.T) {
			r := requestOf(t, "PUT", "https://h.example/k")
			r.Body = io.NopCloser(strings.NewReader(chunked(4, "body", "")))
			r.Header.Set(contentSHA256, streamingSigned)
			r.Header.Set(decodedContentLength, "4")
			change(r)
			refused(t, Sign(r, optionsFor("s3")), "chunks")
		})
	}
}

func TestTwoPayloadHeadersAreRefused(t *testing.T) {
	for _, h := range []http.Header{
		{contentSHA256: {emptyHash, unsignedPayload}}, {contentSHA256: {""}}, {"X_Amz_Content_Sha256": {unsignedPayload}}, {contentSHA256: {emptyHash}, "x-amz-content-sha256": {emptyHash}},
	} {
		r := requestOf(t, "GET", "https://h.example/")
		r.Header = h
		refused(t, Sign(r, optionsFor("s3")), "must be sent once")
	}
}

// S3 streams what nobody has hashed; other services get the hash of a body that is held,
// up to a bound.
func TestABodyWithoutAHash(t *testing.T) {
	body := func(n int) *http.Request {
		r := requestOf(t, "POST", "https://h.example/")
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat("a", n))), -1
		r.Trailer = http.Header{"X": nil}
		return r
	}
	r := body(10 << 20)
	if err := Sign(r, optionsFor("s3")); err != nil || r.Header.Get(contentSHA256) != unsignedPayload || r.ContentLength != -1 {
		t.Errorf("s3: %v, %v", err, r.Header)
	}
	r = body(1000)
	o := optionsFor("sqs")
	o.MaxBody = 1000
	if err := Sign(r, o); err != nil || r.ContentLength != 1000 || r.Trailer != nil || r.Header.Get(contentSHA256) != "" {
		t.Fatalf("sqs: %v, length %d, %v", err, r.ContentLength, r.Header)
	}
	if text, _ := io.ReadAll(r.Body); len(text) != 1000 {
		t.Errorf("%d bytes are left to send", len(text))
	}
	sum := sha256.Sum256([]byte(strings.Repeat("a", 1000)))
	again := requestOf(t, "POST", "https://h.example/")
	again.ContentLength = 1000
	if want := reference(t, again, optionsFor("sqs"), hex.EncodeToString(sum[:])); r.Header.Get("Authorization") != want {
		t.Errorf("%s, the SDK says\n%s", r.Header.Get("Authorization"), want)
	}
	refused(t, Sign(body(1001), o), "larger than 1000 bytes")
	r = body(1)
	r.ContentLength = 1001
	refused(t, Sign(r, o), "larger than 1000 bytes")
	r = body(0)
	if err := Sign(r, o); err != nil || r.Body != http.NoBody || r.ContentLength != 0 {
		t.Errorf("an empty body: %v, %d", err, r.ContentLength)
	}
	r = body(5)
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader("x"), brokenReader{}))
	if err := Sign(r, o); !errors.Is(err, io.ErrClosedPipe) || errors.As(err, new(*Refusal)) {
		t.Errorf("a client that leaves: %v", err)
	}
	r = body(5)
	r.URL.Scheme = "http"
	if err := Sign(r, optionsFor("s3")); err == nil {
		t.Error("an unsigned body over plain HTTP")
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestCheckComparesTheScope(t *testing.T) {
	s := Scope{"s3", "eu-central-1"}
	credential := func(scope string) string {
		return "AWS4-HMAC-SHA256 Credential=egret/placeholder/20260101/" + scope + "/aws4_request, SignedHeaders=host, Signature=00"
	}
	for value, want := range map[string]string{
		"": "", "Bearer egret-placeholder": "", "AWS key:sig": "", credential("eu-central-1/s3"): "",
		credential("us-east-1/s3"):                              `signed for "s3" in "us-east-1"`,
		credential("eu-central-1/sts"):                          `signed for "sts"`,
		credential("s3/eu-central-1"):                           "signed for", // tokenizer's bug: the two swapped
		"AWS4-HMAC-SHA256 Credential=x, Signature=00":           "no readable Credential",
		"AWS4-HMAC-SHA256":                                      "no readable Credential",
		"AWS4-ECDSA-P256-SHA256 Credential=x/y/s3/aws4_request": "use SigV4",
		"AWS4-X509-RSA-SHA256 Credential=x":                     "use SigV4",
		credential(strings.Repeat("x", 500) + "/s3"):            "...",
	} {
		r := requestOf(t, "GET", "https://h.example/")
		if value != "" {
			r.Header.Set("Authorization", value)
		}
		err := Check(r, s)
		if want == "" && err != nil || want != "" && err == nil {
			t.Errorf("%.80s: %v, want %q", value, err, want)
		} else if want != "" {
			refused(t, err, want)
		}
	}
	r := requestOf(t, "GET", "https://h.example/")
	r.Header["Authorization"] = []string{"a", "b"}
	refused(t, Check(r, s), "once")
}

func TestPresignedURLsAreRefused(t *testing.T) {
	for _, name := range []string{"X-Amz-Signature", "x-amz-signature", "X-Amz-Credential", "X%2DAmz-Date", "X-Amz-Security-Token", "AWSAccessKeyId", "X-Amz-Algorithm", "X-Amz-Expires"} {
		r := requestOf(t, "GET", "https://h.example/?a=b&"+name+"=x")
		refused(t, Check(r, Scope{"s3", "r"}), "presigned")
		refused(t, Sign(r, optionsFor("s3")), "presigned")
	}
}

// What egret's own configuration lacks is not the caller's fault.
func TestOptionsThatCannotSign(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"service": func(o *Options) { o.Service = "" }, "region": func(o *Options) { o.Region = "" },
		"id": func(o *Options) { o.AccessKeyID = "" }, "key": func(o *Options) { o.SecretAccessKey = secret.Secret{} },
		"id with a slash": func(o *Options) { o.AccessKeyID = "a/b" }, "id with a line": func(o *Options) { o.AccessKeyID = "a\r\nb" },
	} {
		o := optionsFor("s3")
		change(&o)
		if err := Sign(requestOf(t, "GET", "https://h.example/"), o); err == nil || errors.As(err, new(*Refusal)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMUST_C10_ATokenThatIsNoHeaderIsNotSent(t *testing.T) {
	for _, bad := range []string{"a\r\nX: y", "a\x00b", "a b", "ü"} {
		o := optionsFor("s3")
		o.SessionToken = secret.New(bad)
		if err := Sign(requestOf(t, "GET", "https://h.example/"), o); err == nil || strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// No call leaves anything for another: the path rule, the region and the service are of
// the call (the flaw of signers whose options are changed for each request).
func TestMUST_T8_CallsShareNothing(t *testing.T) {
	want := map[string]string{}
	sign := func(service, path string) string {
		r := requestOf(t, "GET", "https://h.example"+path)
		if err := Sign(r, optionsFor(service)); err != nil {
			t.Error(err)
		}
		return r.Header.Get("Authorization")
	}
	services, paths := []string{"s3", "sts", "dynamodb"}, []string{"/a%20b", "/x/../y"}
	for _, s := range services {
		for _, p := range paths {
			want[s+p] = sign(s, p)
		}
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 200 {
				s, p := services[(i+n)%3], paths[n%2]
				if got := sign(s, p); got != want[s+p] {
					t.Errorf("%s %s: %s, want %s", s, p, got, want[s+p])
				}
			}
		})
	}
	wg.Wait()
}

func TestMUST_C9_NoKeyIsPrinted(t *testing.T) {
	o := optionsFor("s3")
	if text := fmt.Sprintf("%v %+v %#v", o, o, o); strings.Contains(text, "hush") || strings.Contains(text, "token-of-ours") {
		t.Error(text)
	}
}

// The price of a signature has a ceiling.
func TestSignAllocates(t *testing.T) {
	o := optionsFor("s3")
	r := requestOf(t, "GET", "https://b.s3.eu-central-1.amazonaws.com/key?list-type=2&prefix=a%2Fb")
	n := testing.AllocsPerRun(100, func() {
		r.Header = http.Header{contentSHA256: {emptyHash}, "X-Amz-Meta-A": {"b"}}
		if err := Sign(r, o); err != nil {
			t.Fatal(err)
		}
	})
	if t.Logf("%.0f allocations", n); n > 70 {
		t.Errorf("%.0f allocations", n)
	}
}

func BenchmarkSign(b *testing.B) {
	o := optionsFor("s3")
	r := requestOf(b, "GET", "https://b.s3.eu-central-1.amazonaws.com/key")
	b.ReportAllocs()
	for b.Loop() {
		r.Header = http.Header{contentSHA256: {emptyHash}}
		if err := Sign(r, o); err != nil {
			b.Fatal(err)
		}
	}
}

// Whatever the request: Sign refuses, or signs without changing what is not its own.
func FuzzSign(f *testing.F) {
	f.Add("/a", "b=c", "X-Amz-Meta-A", "v", "s3")
	f.Add("/a%2Fb/..", "%zz", "Authorization", "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request", "sts")
	f.Fuzz(func(t *testing.T, path, query, name, value, service string) {
		if service == "" {
			t.Skip()
		}
		r := requestOf(t, "GET", "https://h.example/")
		r.URL.Opaque, r.URL.RawQuery = path, query
		r.Header = http.Header{name: {value}}
		_ = Check(r, Scope{service, "r"})
		u := *r.URL
		err := Sign(r, optionsFor(service))
		if *r.URL != u {
			t.Fatal("the URL was changed")
		}
		if err != nil {
			return
		}
		if r.Header.Get("Authorization") == value || len(r.Header["Authorization"]) != 1 || strings.ContainsAny(r.Header.Get("Authorization"), "\r\n") {
			t.Errorf("Authorization: %q", r.Header["Authorization"])
		}
	})
}
