// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package sigv4

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/internal/secret"
)

// vector is one case of the signing test suite that AWS publishes (formerly
// aws-sig-v4-test-suite.zip of the IAM documentation; now tests/aws-signing-test-suite/v4
// of github.com/awslabs/aws-c-auth, Apache-2.0), as testdata/suite.json has it. The old
// suite's get-header-value-multiline is left out: it folds a header, which no HTTP
// server takes any more (RFC 9112, 5.2).
type vector struct{ Name, Request, Authorization, Canonical string }

func vectors(t testing.TB) []vector {
	t.Helper()
	text, err := os.ReadFile("testdata/suite.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []vector
	if err := json.Unmarshal(text, &list); err != nil || len(list) < 30 {
		t.Fatalf("%d vectors, %v", len(list), err)
	}
	return list
}

// parse reads the suite's own form of a request, which is not quite HTTP: the path may
// hold spaces and raw UTF-8.
func (v vector) parse(t testing.TB) *http.Request {
	t.Helper()
	head, body, _ := strings.Cut(v.Request, "\n\n")
	lines := strings.Split(head, "\n")
	method, rest, _ := strings.Cut(lines[0], " ")
	target := strings.TrimSuffix(rest, " HTTP/1.1")
	path, query, _ := strings.Cut(target, "?")
	r := &http.Request{Method: method, URL: &url.URL{Scheme: "https", Opaque: path, RawQuery: query}, Header: http.Header{}}
	for _, l := range lines[1:] {
		name, value, ok := strings.Cut(l, ":")
		switch {
		case !ok:
			t.Fatalf("line %q", l)
		case name == "Host":
			r.Host = value
		default:
			r.Header.Add(name, value)
		}
	}
	if body != "" {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	}
	return r
}

func suiteOptions() Options {
	return Options{
		Scope: Scope{"service", "us-east-1"},
		Keys:  Keys{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: secret.New("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")},
		Time:  time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC),
	}
}

// The whole suite, with the headers that it signs. Its cases of normalised paths are
// those of every service but S3.
func TestPublishedSuite(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			o, r := suiteOptions(), v.parse(t)
			if err := o.check(); err != nil {
				t.Fatal(err)
			}
			_, list, _ := strings.Cut(v.Authorization, "SignedHeaders=")
			list, _, _ = strings.Cut(list, ",")
			pick := func(name string) bool { return strings.Contains(";"+list+";", ";"+name+";") }
			p, err := payloadOf(r, o)
			if err != nil {
				t.Fatal(err)
			}
			creq, signed, err := canonicalRequest(r, canonicalOptions{double: true, payload: p.hash, pick: pick})
			if err != nil || signed != list {
				t.Fatalf("signed %q, want %q; %v", signed, list, err)
			}
			if v.Canonical != "" && string(creq) != v.Canonical {
				t.Errorf("canonical request\n%s\nwant\n%s", creq, v.Canonical)
			}
			s := o.signing("20150830T123600Z")
			if got, want := s.request(creq), v.Authorization[len(v.Authorization)-hexSignature:]; got != want {
				t.Errorf("signature %s, want %s", got, want)
			}
		})
	}
}

// Sign itself, where the suite signs what Sign signs.
func TestSignMakesTheSuitesHeaders(t *testing.T) {
	n := 0
	for _, v := range vectors(t) {
		r := v.parse(t)
		if strings.Contains(v.Request, "My-Header") || r.Body != nil {
			continue
		}
		o := suiteOptions()
		if strings.Contains(v.Authorization, "x-amz-security-token") {
			o.SessionToken = secret.New(r.Header.Get("X-Amz-Security-Token"))
		}
		r.Header.Set("X-Amz-Date", "20060102T150405Z")
		if err := Sign(r, o); err != nil || r.Header.Get("Authorization") != v.Authorization {
			t.Errorf("%s: %v\n%s, want\n%s", v.Name, err, r.Header.Get("Authorization"), v.Authorization)
		}
		n++
	}
	if n < 20 {
		t.Errorf("only %d of the vectors were tried", n)
	}
}

// s3Example is where the Amazon S3 API Reference works its examples.
func s3Example() Options {
	return Options{
		Scope: Scope{"s3", "us-east-1"},
		Keys:  Keys{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: secret.New("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")},
		Time:  time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC),
	}
}

// Worked examples of "Authenticating Requests: Using the Authorization Header" and
// "Transferring Payload in Multiple Chunks" in the Amazon S3 API Reference. They sign
// headers that Sign leaves out, so the canonical request is made with theirs.
func TestPublishedS3Examples(t *testing.T) {
	for name, tc := range map[string]struct {
		method, url, want string
		header            map[string]string
		length            int64
	}{
		"get object": {"GET", "https://examplebucket.s3.amazonaws.com/test.txt", "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
			map[string]string{"Range": "bytes=0-9", contentSHA256: emptyHash}, 0},
		"put object": {"PUT", "https://examplebucket.s3.amazonaws.com/test%24file.text", "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
			map[string]string{"Date": "Fri, 24 May 2013 00:00:00 GMT", "X-Amz-Storage-Class": "REDUCED_REDUNDANCY", contentSHA256: "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"}, 0},
		"get bucket lifecycle": {"GET", "https://examplebucket.s3.amazonaws.com/?lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
			map[string]string{contentSHA256: emptyHash}, 0},
		"list objects": {"GET", "https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
			map[string]string{contentSHA256: emptyHash}, 0},
		"seed of chunks": {"PUT", "https://s3.amazonaws.com/examplebucket/chunkObject.txt", "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
			map[string]string{"Content-Encoding": "aws-chunked", "X-Amz-Storage-Class": "REDUCED_REDUNDANCY", decodedContentLength: "66560", contentSHA256: streamingSigned}, 66824},
		"seed of chunks with a trailer": {"PUT", "https://s3.amazonaws.com/examplebucket/chunkObject.txt", "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
			map[string]string{"Content-Encoding": "aws-chunked", "X-Amz-Storage-Class": "REDUCED_REDUNDANCY", decodedContentLength: "66560", contentSHA256: streamingSignedTrailer, "X-Amz-Trailer": "x-amz-checksum-crc32c"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequest(tc.method, tc.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range tc.header {
				r.Header.Set(k, v)
			}
			r.Header.Set("X-Amz-Date", "20130524T000000Z")
			r.ContentLength = tc.length
			creq, _, err := canonicalRequest(r, canonicalOptions{payload: tc.header[contentSHA256], pick: func(string) bool { return true }})
			if err != nil {
				t.Fatal(err)
			}
			o := s3Example()
			s := o.signing("20130524T000000Z")
			if got := s.request(creq); got != tc.want {
				t.Errorf("signature %s, want %s\n%s", got, tc.want, creq)
			}
		})
	}
}

// chunked frames data as SDKs do, with signatures of nobody.
func chunked(size int, data, trailer string) string {
	var b strings.Builder
	for {
		n := min(size, len(data))
		b.WriteString(strconv.FormatInt(int64(n), 16) + chunkSignature + strings.Repeat("0", hexSignature) + "\r\n")
		if n == 0 {
			break
		}
		b.WriteString(data[:n] + "\r\n")
		data = data[n:]
	}
	if trailer != "" {
		b.WriteString(trailer + trailerSignature + strings.Repeat("0", hexSignature) + "\r\n")
	}
	return b.String() + "\r\n"
}

// The worked examples of chunks, with and without a trailer (sigv4-streaming and
// sigv4-streaming-trailers in the Amazon S3 API Reference): 65 KiB of "a". The signature
// of the trailer is what the reference's own string to sign gives; its printed value,
// 63bddb24..., is that of AWS4-HMAC-SHA256-PAYLOAD, which no server accepts there
// (integration/aws has one that checks).
func TestPublishedChunks(t *testing.T) {
	o := s3Example()
	for name, tc := range map[string]struct {
		seed, trailer string
		want          []string
	}{
		"plain": {"4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9", "", []string{
			"10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n",
			"400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n",
			"0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n",
		}},
		"trailer": {"106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e", "x-amz-checksum-crc32c:sOO8/Q==\r\n", []string{
			"10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n",
			"400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n",
			"0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n" +
				"x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n",
		}},
		"trailer with the line break of the reference": {"106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e", "x-amz-checksum-crc32c:sOO8/Q==\n\r\n", []string{
			"x-amz-checksum-crc32c:sOO8/Q==\n\r\nx-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			in := chunked(64<<10, strings.Repeat("a", 65<<10), tc.trailer)
			s := newChunkSigner(io.NopCloser(strings.NewReader(in)), chunkConfig{
				signing: o.signing("20130524T000000Z"), seed: tc.seed, max: DefaultMaxChunk, trailer: tc.trailer != "", length: 65 << 10,
			})
			out, err := io.ReadAll(s)
			if err != nil || len(out) != len(in) {
				t.Fatalf("%d bytes of %d, %v", len(out), len(in), err)
			}
			for _, w := range tc.want {
				if !strings.Contains(string(out), w) {
					t.Errorf("%q is not in the body, which ends with %q", w, out[max(0, len(out)-300):])
				}
			}
		})
	}
}
