// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/egret-proxy/egret/policy"
)

// refusalOfAWS is an answer as one of AWS's protocols writes it.
type refusalOfAWS struct {
	status            int
	contentType, head string // head: the value of x-amzn-errortype
	text              string
	zip               bool
}

func (a refusalOfAWS) write(rw http.ResponseWriter) {
	rw.Header().Set("Content-Type", a.contentType)
	if a.head != "" {
		rw.Header().Set("x-amzn-errortype", a.head)
	}
	text := []byte(a.text)
	if a.zip {
		rw.Header().Set("Content-Encoding", "gzip")
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write(text)
		_ = z.Close()
		text = b.Bytes()
	}
	rw.WriteHeader(a.status)
	_, _ = rw.Write(text)
}

const (
	s3Expired  = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message><Token-0>x</Token-0></Error>"
	stsExpired = "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <Error>\n    <Type>Sender</Type>\n    <Code>ExpiredToken</Code>\n  </Error>\n</ErrorResponse>\n"
	ec2Expired = `<Response><Errors><Error><Code>RequestExpired</Code><Message/></Error></Errors><RequestID>1</RequestID></Response>`
)

func awsRefused() *policy.Refused {
	return &policy.Refused{ErrorCodes: []string{"ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException", "RequestExpired"}}
}

// Answers of AWS that refuse its keys, in each of its protocols, and such that do not.
func awsAnswers() map[string]struct {
	refusalOfAWS
	refused bool
} {
	const js, xm = "application/x-amz-json-1.0", "application/xml"
	type answer = struct {
		refusalOfAWS
		refused bool
	}
	return map[string]answer{
		"S3":                     {refusalOfAWS{400, xm, "", s3Expired, false}, true},
		"S3, long":               {refusalOfAWS{400, xm, "", s3Expired + strings.Repeat(" ", 3000), false}, true},
		"S3, packed":             {refusalOfAWS{400, xm, "", s3Expired, true}, true},
		"query":                  {refusalOfAWS{403, "text/xml; charset=utf-8", "", stsExpired, false}, true},
		"EC2":                    {refusalOfAWS{400, "text/xml", "", ec2Expired, false}, true},
		"JSON":                   {refusalOfAWS{400, js, "", `{"__type":"com.amazon.coral.service#UnrecognizedClientException","message":"x"}`, false}, true},
		"JSON, bare":             {refusalOfAWS{400, "application/x-amz-json-1.1", "", `{"message":"x","__type":"ExpiredTokenException"}`, false}, true},
		"JSON, packed":           {refusalOfAWS{400, js, "", `{"__type":"ExpiredTokenException"}`, true}, true},
		"REST JSON, code":        {refusalOfAWS{403, "application/json", "", `{"code":"ExpiredTokenException:http://internal.amazon.com/coral/"}`, false}, true},
		"REST JSON, header":      {refusalOfAWS{403, "application/json", "ExpiredTokenException:http://internal.amazon.com/coral/", `{"message":"x"}`, false}, true},
		"header and no body":     {refusalOfAWS{403, "", "ExpiredTokenException", "", false}, true},
		"a good answer":          {refusalOfAWS{200, xm, "", s3Expired, false}, false},
		"a good answer, JSON":    {refusalOfAWS{200, js, "ExpiredTokenException", `{"__type":"ExpiredTokenException"}`, false}, false},
		"the server's fault":     {refusalOfAWS{503, xm, "", s3Expired, false}, false},
		"another error":          {refusalOfAWS{403, xm, "", strings.Replace(s3Expired, "ExpiredToken", "AccessDenied", 1), false}, false},
		"the code in a message":  {refusalOfAWS{403, xm, "", "<Error><Code>AccessDenied</Code><Message>ExpiredToken</Message></Error>", false}, false},
		"elsewhere in the error": {refusalOfAWS{403, xm, "", "<Error><Detail><Code>ExpiredToken</Code></Detail></Error>", false}, false},
		"beside the error":       {refusalOfAWS{400, xm, "", "<ErrorResponse><Code>ExpiredToken</Code></ErrorResponse>", false}, false},
		"not in an error":        {refusalOfAWS{404, xm, "", "<Report><Error><Code>ExpiredToken</Code></Error></Report>", false}, false},
		"behind the error":       {refusalOfAWS{404, xm, "", "<Response><Error></Error><Error><Code>ExpiredToken</Code></Error></Response>", false}, false},
		"beyond what is read":    {refusalOfAWS{400, xm, "", "<Error><Message>" + strings.Repeat("m", 600) + "</Message><Code>ExpiredToken</Code></Error>", false}, false},
		"cut":                    {refusalOfAWS{400, xm, "", "<Error><Code>ExpiredToken", false}, false},
		"a page":                 {refusalOfAWS{403, "text/html", "", s3Expired, false}, false},
		"nested in JSON":         {refusalOfAWS{400, js, "", `{"error":{"code":"ExpiredTokenException"}}`, false}, false},
		"not JSON":               {refusalOfAWS{400, js, "", s3Expired, false}, false},
	}
}

// AWS says 400 or 403 where keys have expired, and which error it is: the keys are dropped
// and fetched anew once, and what may not be repeated gets AWS's own words.
func TestMUST_C7_KeysThatAWSRefusesAreFetchedAnew(t *testing.T) {
	for name, x := range awsAnswers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var bad atomic.Bool
			w := newWorld(t, withHandler(func(rw http.ResponseWriter, _ *http.Request) {
				if bad.Load() {
					x.write(rw)
				}
			}), func(c *worldConfig) { c.refused = awsRefused() })
			c := w.client("sidecar", func(tr *http.Transport) { tr.DisableCompression = !x.zip })
			if resp, _ := w.get(c, "https://"+otherHost+"/"); resp.StatusCode != 200 {
				t.Fatal(resp.Status)
			}
			bad.Store(true)
			mints := w.minter.mints.Load()
			resp, text := w.get(c, "https://"+otherHost+"/")
			if resp.StatusCode != x.status || text != x.text {
				t.Errorf("%s, %d bytes: not what the SaaS said", resp.Status, len(text))
			}
			want := ""
			if x.refused {
				want = "upstream-auth"
			}
			if n := w.minter.mints.Load() - mints; (n > 0) != x.refused || n > 1 {
				t.Errorf("%d new values", n)
			}
			if rec := w.recordOf(resp); rec.Layer != want && (x.refused || rec.Layer == "upstream-auth") {
				t.Errorf("record %+v", rec)
			}
		})
	}
}

// With keys that are fetched anew the same request succeeds, without its caller's knowing;
// a request with a body is not repeated, but finds new keys the next time.
func TestMUST_C7_ExpiredKeysAreReplacedUnderTheRequest(t *testing.T) {
	for name, r := range map[string]struct {
		method, body  string
		status, calls int
	}{
		"GET":  {"GET", "", 200, 2},
		"PUT":  {"PUT", "x", 400, 1},
		"POST": {"POST", "", 400, 1},
	} {
		for version, change := range map[string]func(*http.Transport){"h2": func(*http.Transport) {}, "h1": http1} { // a world each: the cache backs off
			var expired atomic.Pointer[string]
			var calls atomic.Int64
			w := newWorld(t, withHandler(func(rw http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				if old := expired.Load(); old != nil && r.Header.Get("Authorization") == *old {
					refusalOfAWS{400, "application/xml", "", s3Expired, false}.write(rw)
					return
				}
				_, _ = io.WriteString(rw, r.Header.Get("Authorization"))
			}), func(c *worldConfig) { c.refused = awsRefused() })
			c := w.client("sidecar", change)
			_, first := w.get(c, "https://"+otherHost+"/")
			expired.Store(&first)
			calls.Store(0)
			var in io.Reader
			if r.body != "" {
				in = strings.NewReader(r.body)
			}
			resp := do(t, c, request(t, r.method, "https://"+otherHost+"/", in))
			if text := body(t, resp); resp.StatusCode != r.status || text == first || int(calls.Load()) != r.calls {
				t.Errorf("%s, %s: %s after %d calls: %q", name, version, resp.Status, calls.Load(), text)
			}
			if resp, text := w.get(c, "https://"+otherHost+"/"); resp.StatusCode != 200 || text == first {
				t.Errorf("%s, %s: the next call: %s", name, version, resp.Status)
			}
		}
	}
}

// Looking for a code must not hold up an answer that trickles.
func TestMUST_C7_LookingForACodeDoesNotHoldItUp(t *testing.T) {
	for name, x := range map[string]refusalOfAWS{
		"XML":           {404, "text/xml", "", "<Report>", false},
		"another error": {404, "text/xml", "", "<Error><Code>NoSuchKey</Code>", false},
		"not XML":       {404, "text/xml", "", "</>  ", false},
		"JSON":          {404, "application/json", "", `{"code":"NoSuchKey"}` + "\n", false},
		"a good answer": {200, "text/xml", "", "<Error>", false},
	} {
		t.Run(name, func(t *testing.T) {
			next := make(chan struct{})
			w := newWorld(t, withHandler(func(rw http.ResponseWriter, r *http.Request) {
				x.write(rw)
				_ = http.NewResponseController(rw).Flush()
				select {
				case <-next:
				case <-r.Context().Done():
				}
			}), func(c *worldConfig) { c.refused = awsRefused() })
			resp := do(t, w.client("sidecar"), request(t, "GET", "https://"+otherHost+"/", nil))
			buf := make([]byte, 64)
			if n, err := resp.Body.Read(buf); err != nil || !strings.HasPrefix(x.text, string(buf[:n])) {
				t.Errorf("%q %v", buf[:n], err)
			}
			close(next)
			_ = resp.Body.Close()
		})
	}
}

// What has been told of a document does not change with what follows, and a document cut
// anywhere names the same code or none.
func FuzzXMLCode(f *testing.F) {
	for _, s := range []string{s3Expired, stsExpired, ec2Expired, "", "<", "<Error/>", "<Error><Code/></Error>", "<Error><Code><x>a</x>b</Code></Error>", "<!DOCTYPE x [<!ENTITY a \"b\">]><Error><Code>&a;</Code></Error>", "<?xml version=\"1.0\" encoding=\"latin1\"?><Error><Code>a</Code></Error>"} {
		f.Add([]byte(s), len(s)/2)
	}
	f.Fuzz(func(t *testing.T, text []byte, cut int) {
		if len(text) > maxUnpacked {
			return
		}
		code, _ := xmlCode(text)
		cut = max(0, min(cut, len(text)))
		early, more := xmlCode(text[:cut])
		if !more && early != code {
			t.Errorf("%q names %q, and its first %d bytes %q", text, code, cut, early)
		}
		if more && early != "" {
			t.Errorf("%q: a code and an open question", text[:cut])
		}
	})
}
