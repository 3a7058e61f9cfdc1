// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package sigv4

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

const exampleSeed = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"

func chunkSignerOf(body io.Reader, c chunkConfig) *chunkSigner {
	o := s3Example()
	c.signing, c.seed = o.signing("20130524T000000Z"), exampleSeed
	if c.max == 0 {
		c.max = DefaultMaxChunk
	}
	return newChunkSigner(io.NopCloser(body), c)
}

// verify reads a signed body as a server does, written apart from what signs: it splits
// the whole text and computes each signature from its own string to sign.
func verify(t testing.TB, body string, trailer bool) (data string) {
	t.Helper()
	o := s3Example()
	s := o.signing("20130524T000000Z")
	check := func(algorithm, prev, got string, hashes ...string) string {
		text := algorithm + "\n" + s.stamp + "\n" + s.scope + "\n" + prev + "\n" + strings.Join(hashes, "\n")
		sum := mac(s.key[:], text)
		if want := hex.EncodeToString(sum[:]); got != want {
			t.Fatalf("signature %s, want %s", got, want)
		}
		return got
	}
	hash := func(b string) string { sum := sha256.Sum256([]byte(b)); return hex.EncodeToString(sum[:]) }
	prev := exampleSeed
	for {
		line, rest, _ := strings.Cut(body, "\r\n")
		size, sig, _ := strings.Cut(line, ";chunk-signature=")
		n := 0
		for _, c := range strings.ToLower(size) {
			n = n*16 + strings.IndexRune("0123456789abcdef", c)
		}
		prev = check("AWS4-HMAC-SHA256-PAYLOAD", prev, sig, hash(""), hash(rest[:n]))
		if n == 0 {
			body = rest
			break
		}
		data += rest[:n]
		body = rest[n+2:]
	}
	if !trailer {
		return data
	}
	fields, sig, _ := strings.Cut(body, "x-amz-trailer-signature:")
	var signed string
	for _, l := range strings.FieldsFunc(fields, func(r rune) bool { return r == '\r' || r == '\n' }) {
		signed += l + "\n"
	}
	check("AWS4-HMAC-SHA256-TRAILER", prev, strings.TrimRight(sig, "\r\n"), hash(signed))
	return data
}

func TestChunksAreSignedHoweverTheyAreRead(t *testing.T) {
	text := strings.Repeat("0123456789", 1000)
	for name, c := range map[string]struct{ size int }{"one": {1 << 20}, "many": {777}, "bytes": {1}} {
		for _, trailer := range []string{"", "x-amz-checksum-crc32c:sOO8/Q==\r\n"} {
			for how, wrap := range map[string]func(io.Reader) io.Reader{
				"whole": func(r io.Reader) io.Reader { return r }, "byte": iotest.OneByteReader, "half": iotest.HalfReader, "data with EOF": iotest.DataErrReader,
			} {
				t.Run(name+" "+how+" "+trailer, func(t *testing.T) {
					in := chunked(c.size, text, trailer)
					s := chunkSignerOf(wrap(strings.NewReader(in)), chunkConfig{trailer: trailer != "", length: int64(len(text))})
					out, err := io.ReadAll(s)
					if err != nil || len(out) != len(in) {
						t.Fatalf("%d bytes of %d, %v", len(out), len(in), err)
					}
					if got := verify(t, string(out), trailer != ""); got != text {
						t.Error("the data is not the same")
					}
				})
			}
		}
	}
}

// Whatever is not framed as documented ends the body with an error that is no end, and
// nothing of the broken chunk has gone out.
func TestBrokenFramingFailsClosed(t *testing.T) {
	zeros := strings.Repeat("0", 64)
	one := "3;chunk-signature=" + zeros + "\r\nabc\r\n"
	last := "0;chunk-signature=" + zeros + "\r\n"
	field := "x-amz-checksum-crc32c:sOO8/Q==\r\n"
	end := "x-amz-trailer-signature:" + zeros + "\r\n"
	for name, tc := range map[string]struct {
		body    string
		trailer bool
		want    string
	}{
		"empty":                {"", false, "ends before its last chunk"},
		"no last chunk":        {one, false, "ends before its last chunk"},
		"breaks off in a line": {one + "0;chunk-sig", false, "ends before its last chunk"},
		"breaks off in data":   {"3;chunk-signature=" + zeros + "\r\na", false, "ends before its last chunk"},
		"unsigned chunk":       {"3\r\nabc\r\n", false, "must begin with"},
		"another extension":    {"3;x=y;chunk-signature=" + zeros + "\r\nabc\r\n", false, "number in hex"},
		"short signature":      {"3;chunk-signature=00\r\nabc\r\n", false, "must begin with"},
		"signature not hex":    {"3;chunk-signature=" + strings.Repeat("z", 64) + "\r\nabc\r\n", false, "must begin with"},
		"bare LF":              {"3;chunk-signature=" + zeros + "\nabc\r\n", false, "must begin with"},
		"endless line":         {strings.Repeat("0", 1<<16), false, "must begin with"},
		"no size":              {";chunk-signature=" + zeros + "\r\n", false, "number in hex"},
		"negative size":        {"-3;chunk-signature=" + zeros + "\r\nabc\r\n", false, "number in hex"},
		"huge size":            {"ffffffffffffffff;chunk-signature=" + zeros + "\r\n", false, "number in hex"},
		"chunk too large":      {"100001;chunk-signature=" + zeros + "\r\n", false, "larger than"},
		"more data than said":  {one + one, false, "more bytes"},
		"less data than said":  {last + "\r\n", false, "fewer bytes"},
		"data too long":        {"3;chunk-signature=" + zeros + "\r\nabcd\r\n", false, "line break"},
		"no end":               {one + last, false, "end with a line break"},
		"bytes behind":         {one + last + "\r\nGET", false, "end with a line break"},
		"unasked trailer":      {one + last + field + end + "\r\n", false, "end with a line break"},
		"trailer missing":      {one + last + "\r\n", true, "ends before its last chunk"},
		"trailer unsigned":     {one + last + field + "\r\n", true, "ends before its last chunk"},
		"trailer empty":        {one + last + end + "\r\n", true, "must hold a field"},
		"trailer signature":    {one + last + field + "x-amz-trailer-signature:00\r\n\r\n", true, "must hold a field"},
		"trailer of anything":  {one + last + "authorization:x\r\n" + end, true, "x-amz-NAME:VALUE"},
		"trailer upper case":   {one + last + "X-Amz-Checksum-Crc32c:x\r\n" + end, true, "x-amz-NAME:VALUE"},
		"trailer endless":      {one + last + strings.Repeat("x-amz-a:b\r\n", 1000) + end, true, "larger than"},
		"behind the trailer":   {one + last + field + end + "\r\nx", true, "end with a line break"},
	} {
		t.Run(name, func(t *testing.T) {
			s := chunkSignerOf(strings.NewReader(tc.body), chunkConfig{trailer: tc.trailer, length: 3})
			out, err := io.ReadAll(s)
			var r *Refusal
			if !errors.As(err, &r) || !r.CallerFault() || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("%v, want %q", err, tc.want)
			}
			if strings.Contains(string(out), "0;chunk-signature=") && !strings.HasPrefix(string(out), "3;") || bytes.HasSuffix(out, []byte("\r\n\r\n")) {
				t.Errorf("out went %q, which could be taken for a whole body", out)
			}
			if n, again := s.Read(make([]byte, 1)); n != 0 || !errors.Is(again, err) {
				t.Errorf("read once more: %d, %v", n, again)
			}
		})
	}
}

// The client's own failure stays what it is.
func TestAReadErrorIsPassedOn(t *testing.T) {
	gone := errors.New("gone")
	s := chunkSignerOf(io.MultiReader(strings.NewReader("3;chunk"), iotest.ErrReader(gone)), chunkConfig{length: 3})
	if _, err := io.ReadAll(s); !errors.Is(err, gone) {
		t.Errorf("%v", err)
	}
}

// Memory is that of one chunk, whatever the body's length.
func TestOneChunkIsHeld(t *testing.T) {
	const chunk, n = 64 << 10, 200
	part := chunked(chunk, strings.Repeat("a", chunk), "")
	part = part[:strings.LastIndex(part, "0;chunk")]
	var body []io.Reader
	for range n {
		body = append(body, strings.NewReader(part))
	}
	body = append(body, strings.NewReader("0;chunk-signature="+strings.Repeat("0", 64)+"\r\n\r\n"))
	s := chunkSignerOf(io.MultiReader(body...), chunkConfig{length: chunk * n})
	if n, err := io.Copy(io.Discard, struct{ io.Reader }{s}); err != nil || n == 0 {
		t.Fatal(n, err)
	}
	if cap(s.out) > 2*chunk {
		t.Errorf("%d bytes are held for chunks of %d", cap(s.out), chunk)
	}
}

// Whatever the body: it ends well only where its framing is sound, and then every byte
// but those of signatures is as it came, and every signature is right.
func FuzzChunks(f *testing.F) {
	f.Add(chunked(5, "hello world", ""), int64(11), false)
	f.Add(chunked(100, "hello world", "x-amz-checksum-crc32c:sOO8/Q==\n\r\n"), int64(11), true)
	f.Add("0;chunk-signature="+strings.Repeat("a", 64)+"\r\n\r\n", int64(0), false)
	f.Fuzz(func(t *testing.T, in string, length int64, trailer bool) {
		s := chunkSignerOf(strings.NewReader(in), chunkConfig{trailer: trailer, length: max(length, 0), max: 1 << 10})
		out, err := io.ReadAll(s)
		if cap(s.out) > 1<<10+maxTrailer*2+1<<10 {
			t.Fatalf("%d bytes are held", cap(s.out))
		}
		if err != nil {
			return
		}
		if len(out) != len(in) {
			t.Fatalf("%d bytes became %d", len(in), len(out))
		}
		if data := verify(t, string(out), trailer); int64(len(data)) != max(length, 0) {
			t.Fatalf("%d bytes of data, said were %d", len(data), length)
		}
		for i := range in {
			if in[i] != out[i] && !strings.ContainsRune("0123456789abcdef", rune(out[i])) {
				t.Fatalf("byte %d changed from %q to %q", i, in[i], out[i])
			}
		}
	})
}

func BenchmarkChunks(b *testing.B) {
	in := chunked(64<<10, strings.Repeat("a", 1<<20), "")
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	buf := make([]byte, 32<<10)
	for b.Loop() {
		s := chunkSignerOf(strings.NewReader(in), chunkConfig{length: 1 << 20})
		for {
			if _, err := s.Read(buf); err != nil {
				break
			}
		}
	}
}
