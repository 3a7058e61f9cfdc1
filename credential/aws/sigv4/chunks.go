// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package sigv4

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
)

const (
	chunkAlgorithm   = "AWS4-HMAC-SHA256-PAYLOAD"
	trailerAlgorithm = "AWS4-HMAC-SHA256-TRAILER"
	chunkSignature   = ";chunk-signature="
	trailerSignature = "x-amz-trailer-signature:"
	hexSignature     = 2 * sha256.Size
	maxTrailer       = 8 << 10 // bytes of all trailer lines
)

type chunkConfig struct {
	signing signing
	seed    string // signature of the request
	max     int    // bytes of a chunk
	trailer bool
	length  int64 // bytes of all chunks
}

// chunkSigner reads a body of signed chunks ("Signature calculations for the
// authorization header: transferring payload in multiple chunks", Amazon S3 API
// Reference) and gives it back with other signatures of the same length: every other
// byte stays. It holds one chunk, since a chunk's signature stands before its data. What
// is not framed as documented ends it with a *Refusal before its end, so that the
// upstream never takes the body for a whole one.
type chunkSigner struct {
	chunkConfig
	body io.ReadCloser
	src  *bufio.Reader
	prev string
	out  []byte // framed and signed
	off  int    // of out that has been read
	err  error  // after out
}

func newChunkSigner(body io.ReadCloser, c chunkConfig) *chunkSigner {
	return &chunkSigner{chunkConfig: c, body: body, src: bufio.NewReader(body), prev: c.seed}
}

// Read implements io.Reader.
func (s *chunkSigner) Read(p []byte) (int, error) {
	for s.off == len(s.out) {
		if s.err != nil {
			return 0, s.err
		}
		s.off, s.out = 0, s.out[:0]
		if err := s.next(); err != nil {
			s.out, s.err = s.out[:0], whole(err)
		}
	}
	n := copy(p, s.out[s.off:])
	s.off += n
	return n, nil
}

// Close implements io.Closer.
func (s *chunkSigner) Close() error { return s.body.Close() }

// whole makes an early end an error that no copy loop takes for the end.
func whole(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return refuse("body ends before its last chunk")
	}
	return err
}

// next puts one chunk into out.
func (s *chunkSigner) next() error {
	size, err := s.header()
	if err != nil {
		return err
	}
	sig := len(s.out) - hexSignature - 2 // of this chunk, to be replaced
	data := len(s.out)
	switch {
	case size > int64(s.max):
		return refuse("chunk of %d bytes is larger than %d", size, s.max)
	case size > s.length:
		return refuse("the chunks have more bytes than %s says", decodedContentLength)
	case size == 0:
		return s.last(sig)
	}
	s.length -= size
	s.out = slices.Grow(s.out, int(size)+2)[:data+int(size)+2]
	if _, err := io.ReadFull(s.src, s.out[data:]); err != nil {
		return err
	}
	if !bytes.HasSuffix(s.out, crlf()) {
		return refuse("chunk does not end with a line break")
	}
	s.sign(sig, s.out[data:data+int(size)])
	return nil
}

func crlf() []byte { return []byte("\r\n") }

// header reads "SIZE;chunk-signature=HEX" with its line break into out.
func (s *chunkSigner) header() (int64, error) {
	line, err := s.src.ReadSlice('\n')
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
		return 0, err
	}
	digits, sig, ok := bytes.Cut(line, []byte(chunkSignature))
	if !ok || len(sig) != hexSignature+2 || !isHash(string(sig[:hexSignature])) || !bytes.HasSuffix(sig, crlf()) {
		return 0, refuse("chunk must begin with SIZE%sHEX and a line break", chunkSignature)
	}
	size, err := strconv.ParseUint(string(digits), 16, 62)
	if err != nil {
		return 0, refuse("size of a chunk must be a number in hex")
	}
	s.out = append(s.out, line...)
	return int64(size), nil
}

// sign writes the signature of a chunk to out[at:].
func (s *chunkSigner) sign(at int, data []byte) {
	sum := sha256.Sum256(data)
	s.prev = s.signing.sign(chunkAlgorithm, s.prev, emptyHash, hex.EncodeToString(sum[:]))
	copy(s.out[at:], s.prev)
}

// last takes what follows the chunk without data, and ends the body.
func (s *chunkSigner) last(sig int) error {
	s.sign(sig, nil)
	if s.length != 0 {
		return refuse("the chunks have fewer bytes than %s says", decodedContentLength)
	}
	if s.trailer {
		if err := s.trailers(); err != nil {
			return err
		}
	}
	end, err := io.ReadAll(io.LimitReader(s.src, 3))
	switch {
	case err != nil:
		return err
	case string(end) != "\r\n" && (!s.trailer || len(end) > 0): // some leave out the line break behind a trailer
		return refuse("body must end with a line break after its last chunk")
	}
	s.out, s.err = append(s.out, end...), io.EOF
	return nil
}

// trailers copies the lines up to the trailer's signature and replaces that. Signed are
// "name:value\n" of each, whichever line break is on the wire (some SDKs send "\n\r\n").
func (s *chunkSigner) trailers() error {
	var lines []string
	for begin := len(s.out); len(s.out)-begin <= maxTrailer; {
		line, err := s.src.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
		s.out = append(s.out, line...)
		text := strings.TrimRight(string(line), "\r\n")
		if sig, ok := strings.CutPrefix(text, trailerSignature); ok {
			return s.signTrailer(lines, sig, len(line)-len(trailerSignature))
		}
		if text == "" {
			continue
		}
		name, value, ok := strings.Cut(text, ":")
		if !ok || !strings.HasPrefix(name, "x-amz-") || !plain(name, false) || name != strings.ToLower(name) {
			return refuse("trailer must be lines of x-amz-NAME:VALUE in lower case")
		}
		lines = append(lines, name+":"+strings.TrimSpace(value)+"\n")
	}
	return refuse("trailer is larger than %d bytes", maxTrailer)
}

// signTrailer replaces the signature that begins back bytes before the end of out.
func (s *chunkSigner) signTrailer(lines []string, sig string, back int) error {
	if !isHash(sig) || len(lines) == 0 {
		return refuse("trailer must hold a field and %sHEX", trailerSignature)
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "")))
	s.prev = s.signing.sign(trailerAlgorithm, s.prev, hex.EncodeToString(sum[:]))
	copy(s.out[len(s.out)-back:], s.prev)
	return nil
}
