// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration

package aws

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// data is a body of any length that costs nothing to make, and its hashes.
type data struct {
	left int64
	next uint64
	sum  hash.Hash
	crc  hash.Hash32
}

func newData(size int64) *data {
	return &data{left: size, sum: sha256.New(), crc: crc32.New(crc32.MakeTable(crc32.Castagnoli))}
}

func (d *data) Read(p []byte) (int, error) {
	if d.left == 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), d.left))
	for i := 0; i < n; i += 8 {
		var b [8]byte
		d.next = d.next*6364136223846793005 + 1442695040888963407
		binary.LittleEndian.PutUint64(b[:], d.next)
		copy(p[i:n], b[:])
	}
	d.left -= int64(n)
	_, _ = d.sum.Write(p[:n])
	_, _ = d.crc.Write(p[:n])
	return n, nil
}

// chunked frames data as SDKs do, with signatures that nobody has made.
type chunked struct {
	data    *data
	size    int
	trailer bool
	signed  bool
	buf     bytes.Buffer
	done    bool
}

const noSignature = "0000000000000000000000000000000000000000000000000000000000000000"

func (c *chunked) Read(p []byte) (int, error) {
	for c.buf.Len() == 0 {
		if c.done {
			return 0, io.EOF
		}
		c.next()
	}
	return c.buf.Read(p)
}

func (c *chunked) next() {
	chunk := make([]byte, c.size)
	n, _ := io.ReadFull(c.data, chunk)
	c.buf.WriteString(strconv.FormatInt(int64(n), 16))
	if c.signed {
		c.buf.WriteString(";chunk-signature=" + noSignature)
	}
	c.buf.WriteString("\r\n")
	if n > 0 {
		c.buf.Write(chunk[:n])
		c.buf.WriteString("\r\n")
		return
	}
	c.done = true
	if c.trailer {
		c.buf.WriteString("x-amz-checksum-crc32c:" + base64.StdEncoding.EncodeToString(c.data.crc.Sum(nil)) + "\r\n")
	}
	if c.trailer && c.signed {
		c.buf.WriteString("x-amz-trailer-signature:" + noSignature + "\r\n")
	}
	c.buf.WriteString("\r\n")
}

// length is that of the whole frame.
func (c *chunked) length(size int64) int64 {
	one := func(n int64) int64 {
		l := int64(len(strconv.FormatInt(n, 16))) + n + 4
		if c.signed {
			l += int64(len(";chunk-signature=")) + 64
		}
		return l
	}
	total := size / int64(c.size) * one(int64(c.size))
	if rest := size % int64(c.size); rest > 0 {
		total += one(rest)
	}
	total += one(0)
	if c.trailer {
		total += int64(len("x-amz-checksum-crc32c:12345678\r\n"))
	}
	if c.trailer && c.signed {
		total += int64(len("x-amz-trailer-signature:")) + 64 + 2
	}
	return total
}

// put uploads size bytes in one mode of X-Amz-Content-Sha256, "" for none.
func (e *egret) put(t *testing.T, key, mode string, size int64) (*http.Response, *data) {
	t.Helper()
	d := newData(size)
	var body io.Reader = d
	length := size
	header := http.Header{"Authorization": {"AWS4-HMAC-SHA256 Credential=egret-placeholder/20260101/" + region + "/s3/aws4_request, SignedHeaders=host, Signature=" + noSignature}}
	if mode != "" {
		header.Set("X-Amz-Content-Sha256", mode)
	}
	if strings.HasPrefix(mode, "STREAMING-") {
		c := &chunked{data: d, size: 64 << 10, trailer: strings.HasSuffix(mode, "-TRAILER"), signed: strings.Contains(mode, "HMAC")}
		body, length = c, c.length(size)
		header.Set("X-Amz-Decoded-Content-Length", strconv.FormatInt(size, 10))
		header.Set("Content-Encoding", "aws-chunked")
		if c.trailer {
			header.Set("X-Amz-Trailer", "x-amz-checksum-crc32c")
		}
	}
	if length == 0 {
		body = http.NoBody // otherwise net/http takes the length for unknown
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "https://"+storeHost+"/"+bucket+"/"+key, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header, r.ContentLength = header, length
	resp, err := e.client(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp, d
}

// get downloads, unsigned, and returns the hash.
func (e *egret) get(t *testing.T, key string) (int64, []byte) {
	t.Helper()
	resp, err := e.client(t).Get("https://" + storeHost + "/" + bucket + "/" + key)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s after %d bytes: %v", key, resp.Status, n, err)
	}
	return n, sum.Sum(nil)
}

// Every mode in which a body is declared: the store checks each signature of each chunk,
// and the checksum behind the last.
func TestEveryPayloadMode(t *testing.T) {
	e := store(t)
	for _, mode := range []string{
		"", "UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
		"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
	} {
		for _, size := range []int64{0, 1, 64 << 10, 1<<20 + 17} {
			t.Run(fmt.Sprintf("%s %d", mode, size), func(t *testing.T) {
				resp, d := e.put(t, "mode"+mode, mode, size)
				if resp.StatusCode != http.StatusOK {
					text, _ := io.ReadAll(resp.Body)
					t.Fatalf("%s\n%s", resp.Status, text)
				}
				if n, sum := e.get(t, "mode"+mode); n != size || !bytes.Equal(sum, d.sum.Sum(nil)) {
					t.Errorf("%d bytes came back, and not the same", n)
				}
			})
		}
	}
}

// What cannot be signed anew is refused by egret, and nothing is stored.
func TestModesThatAreRefused(t *testing.T) {
	e := store(t)
	for _, mode := range []string{
		"STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER",
		"STREAMING-AWS4-HMAC-SHA256-EVENTS", "something",
	} {
		resp, _ := e.put(t, "refused", mode, 100)
		if resp.StatusCode != http.StatusBadRequest || !strings.Contains(resp.Header.Get("Egret-Decision"), "caller_signature") {
			t.Errorf("%s: %s %v", mode, resp.Status, resp.Header["Egret-Decision"])
		}
	}
	if resp, err := e.client(t).Get("https://" + storeHost + "/" + bucket + "/refused"); err != nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("%v %v", resp, err)
	}
	resp, err := e.client(t).Get("https://" + storeHost + "/" + bucket + "/x?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=k%2F20260101%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Signature=00")
	if err != nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("presigned: %v %v", resp, err)
	}
}

// 1 GiB up and down, in the mode of today's SDKs and with signed chunks: egret's memory
// does not grow with what goes through it.
func TestBulkWithFlatMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("moves gigabytes")
	}
	const size, slack = 1 << 30, 64 << 10 // bytes; KiB, of which 32 MiB are garbage that may gather
	e := store(t)
	for _, mode := range []string{"UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"} { // to warm up
		e.put(t, "warm", mode, 64<<20)
		e.get(t, "warm")
	}
	_, before := e.memory(t)
	for _, mode := range []string{"STREAMING-UNSIGNED-PAYLOAD-TRAILER", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"} {
		begin := time.Now()
		resp, d := e.put(t, "bulk", mode, size)
		if resp.StatusCode != http.StatusOK {
			text, _ := io.ReadAll(resp.Body)
			t.Fatalf("%s\n%s", resp.Status, text)
		}
		up := time.Since(begin)
		begin = time.Now()
		if n, sum := e.get(t, "bulk"); n != size || !bytes.Equal(sum, d.sum.Sum(nil)) {
			t.Errorf("%d bytes came back, and not the same", n)
		}
		_, after := e.memory(t)
		t.Logf("%s: up in %s, down in %s; egret's peak of memory was %d KiB before and %d KiB after", mode, up.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond), before, after)
		if after > before+slack {
			t.Errorf("memory grew from %d to %d KiB", before, after)
		}
	}
}

// The same with boto3, from a file that it uploads as it likes.
func TestBulkWithBoto3(t *testing.T) {
	if testing.Short() {
		t.Skip("moves gigabytes")
	}
	e := store(t)
	_, before := e.memory(t)
	all := pythons(t)
	for _, version := range slices.Sorted(maps.Keys(all))[len(all)-1:] { // the newest does it in its own ways
		python := all[version]
		code, out := e.run(t, 8*time.Minute, python, "testdata/bulk.py", "https://"+storeHost, bucket, strconv.Itoa(1<<30))
		_, after := e.memory(t)
		t.Logf("boto3 %s: %s; egret's peak of memory was %d KiB before and %d KiB after", version, strings.TrimSpace(out), before, after)
		if code != 0 {
			t.Errorf("exit %d\n%s", code, out)
		}
		if after > before+96<<10 { // ten connections at once, each with its buffers, and garbage
			t.Errorf("memory grew from %d to %d KiB", before, after)
		}
	}
}
