// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package sigv4 signs requests with AWS Signature Version 4, in place of whatever
// signature the caller has put in. It is not an SDK's signer: it takes a request that is
// final, changes nothing of it but the fields of the signature, and streams bodies. What
// is signed for (service and region) comes from configuration; the caller's own scope is
// only ever compared with it.
//
// All functions are pure: what a call depends on is in its arguments, so that no two
// requests can meet in a shared signer.
package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/egret-proxy/egret/internal/secret"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminal   = "aws4_request"
	dateFormat = "20060102"
	timeFormat = "20060102T150405Z"

	// emptyHash is the SHA-256 of nothing.
	emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// Bounds of what a call holds in memory, where Options do not say otherwise.
const (
	DefaultMaxBody  = 1 << 20 // bytes of a body that must be hashed before it is sent
	DefaultMaxChunk = 1 << 20 // bytes of one chunk that is signed anew; SDKs make 64 to 128 KiB
)

// Scope is what a signature is good for.
type Scope struct{ Service, Region string }

func (s Scope) String() string { return s.Service + " in " + s.Region }

// s3 reports the services that take the path as it is and sign payloads in their own ways.
func (s Scope) s3() bool {
	return s.Service == "s3" || s.Service == "s3-outposts" || s.Service == "s3-object-lambda"
}

// Keys are one set of AWS credentials. SessionToken is empty for long-lived ones.
type Keys struct {
	AccessKeyID     string
	SecretAccessKey secret.Secret
	SessionToken    secret.Secret
}

// Options of one call.
type Options struct {
	Scope
	Keys
	Time     time.Time // as AWS' clock has it
	MaxBody  int64     // bytes; zero: DefaultMaxBody
	MaxChunk int       // bytes; zero: DefaultMaxChunk
}

// Refusal is a request that cannot be signed through a fault of its sender. Its text is
// fit for the sender: it holds nothing but what the sender wrote.
type Refusal struct{ text string }

func (e *Refusal) Error() string { return "sigv4: " + e.text }

// CallerFault marks the error as the sender's for those who do not know this package.
func (e *Refusal) CallerFault() bool { return true }

func refuse(format string, args ...any) error {
	return &Refusal{fmt.Sprintf(format, args...)}
}

// Headers returns the canonical names of what Sign deletes from a request or sets.
func Headers() []string {
	return []string{"Authorization", "X-Amz-Date", "X-Amz-Security-Token", "X-Amz-Region-Set", "X-Amz-S3session-Token"}
}

// Sign puts a signature into r, whose URL, host, length and other headers must be those
// that go to the wire: nothing may be added to or taken from them afterwards. It may
// replace r.Body: by one that signs chunks while they are read, whose errors are
// *Refusal where the framing is broken, or by a buffer. With an error r must not be
// sent; a *Refusal is the sender's fault.
func Sign(r *http.Request, o Options) error {
	if err := o.check(); err != nil {
		return err
	}
	if err := checkQuery(r.URL.RawQuery); err != nil {
		return err
	}
	strip(r.Header)
	p, err := payloadOf(r, o)
	if err != nil {
		return err
	}
	stamp := o.Time.UTC().Format(timeFormat)
	r.Header["X-Amz-Date"] = []string{stamp}
	if !o.SessionToken.IsZero() {
		r.Header["X-Amz-Security-Token"] = []string{o.SessionToken.Reveal()}
	}
	creq, signed, err := canonicalRequest(r, canonicalOptions{double: !o.s3(), payload: p.hash, pick: mustSign})
	if err != nil {
		return err
	}
	s := o.signing(stamp)
	sig := s.request(creq)
	r.Header["Authorization"] = []string{algorithm + " Credential=" + o.AccessKeyID + "/" + s.scope +
		", SignedHeaders=" + signed + ", Signature=" + sig}
	if p.resign {
		r.Body = newChunkSigner(r.Body, chunkConfig{signing: s, seed: sig, max: o.MaxChunk, trailer: p.trailer, length: p.length})
	}
	return nil
}

func (o *Options) check() error {
	if o.MaxBody == 0 {
		o.MaxBody = DefaultMaxBody
	}
	if o.MaxChunk == 0 {
		o.MaxChunk = DefaultMaxChunk
	}
	switch {
	case o.Service == "" || o.Region == "":
		return fmt.Errorf("sigv4: service %q and region %q must be set", o.Service, o.Region)
	case o.AccessKeyID == "" || o.SecretAccessKey.IsZero():
		return fmt.Errorf("sigv4: there is no key to sign with")
	case strings.ContainsFunc(o.AccessKeyID, func(c rune) bool { return c <= ' ' || c > '~' || c == '/' || c == ',' }):
		return fmt.Errorf("sigv4: the access key id has characters that no such id has")
	case strings.ContainsFunc(o.SessionToken.Reveal(), func(c rune) bool { return c <= ' ' || c > '~' }):
		return fmt.Errorf("sigv4: the session token has characters that no header takes") // MUST C10
	}
	return nil
}

// strip deletes every spelling of what Headers lists (MUST H2).
func strip(h http.Header) {
	names := Headers()
	for k := range h {
		for _, n := range names {
			if len(k) == len(n) && strings.EqualFold(strings.ReplaceAll(k, "_", "-"), n) {
				delete(h, k)
			}
		}
	}
}

// signing is what a request and the chunks of its body are signed with.
type signing struct {
	key   [sha256.Size]byte
	stamp string
	scope string // date/region/service/aws4_request
}

func (o *Options) signing(stamp string) signing {
	date := stamp[:len(dateFormat)]
	s := signing{stamp: stamp, scope: date + "/" + o.Region + "/" + o.Service + "/" + terminal}
	key := []byte("AWS4" + o.SecretAccessKey.Reveal())
	for _, step := range [...]string{date, o.Region, o.Service, terminal} {
		s.key = mac(key, step)
		key = s.key[:]
	}
	return s
}

// request returns the signature of a canonical request, in hex.
func (s *signing) request(creq []byte) string {
	sum := sha256.Sum256(creq)
	return s.sign(algorithm, hex.EncodeToString(sum[:]))
}

// sign joins algorithm, time, scope and lines into a string to sign.
func (s *signing) sign(algorithm string, lines ...string) string {
	var b strings.Builder
	b.Grow(512)
	for _, line := range append([]string{algorithm, s.stamp, s.scope}, lines[:len(lines)-1]...) {
		b.WriteString(line)
		b.WriteByte('\n')
	}
	b.WriteString(lines[len(lines)-1])
	sum := mac(s.key[:], b.String())
	return hex.EncodeToString(sum[:])
}

func mac(key []byte, text string) (out [sha256.Size]byte) {
	h := hmac.New(sha256.New, key)
	_, _ = h.Write([]byte(text))
	h.Sum(out[:0])
	return out
}
