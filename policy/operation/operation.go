// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package operation reads what a request does where its method and path do not tell:
// AWS APIs, GraphQL, JSON-RPC (and MCP), APIs that name the action in a field.
//
// What it reads decides whether a request is sent with a credential, and whoever wrote
// the request wants the answer to be wrong. So it reads only what every server must read
// in the same way. Whatever could be read in two ways has no result: members or fields
// that stand twice, in any case; a content type that is missing, unknown or contradicted;
// encodings and charsets; data behind the end; batches. No result is a deny (MUST H15).
//
// It is pure: no I/O, no state. Its errors are fixed words without anything of the request.
package operation

import (
	"errors"
	"fmt"
	"slices"
)

// MaxBody is the most of a body, in bytes, that is looked at. A longer one has no result.
const MaxBody = 64 << 10

// Bounds of a result.
const (
	maxOperations = 64
	maxName       = 256 // bytes of one operation
)

// Kinds of extractors, as a Destination names them.
const (
	AWS     = "aws"     // AWS query, AWS JSON, Smithy RPC and S3, at hosts of AWS
	S3      = "s3"      // the S3 REST API at a host of one's own, buckets in the path
	GraphQL = "graphql" // every root field: query:repository, mutation:createIssue
	JSONRPC = "jsonrpc" // the method; of MCP tools/call:NAME
	Form    = "form"    // the value of one field of a form or a JSON object
)

// Kinds returns all of them.
func Kinds() []string { return []string{AWS, S3, GraphQL, JSONRPC, Form} }

// Extractor is one configured way to read operations. The zero value and nil have never
// a result. Immutable and safe for concurrent use.
type Extractor struct {
	kind  string
	field string
}

// New makes an extractor. Field is required by Form and must be empty otherwise.
func New(kind, field string) (*Extractor, error) {
	switch {
	case !slices.Contains(Kinds(), kind):
		return nil, fmt.Errorf("operation %q must be one of %v", clip(kind), Kinds())
	case kind != Form && field != "":
		return nil, fmt.Errorf("field %q must be absent unless the operation is %s", clip(field), Form)
	case kind == Form && !plainField(field):
		return nil, fmt.Errorf("field %q must be 1 to 64 letters, digits, dashes and underscores", clip(field))
	}
	return &Extractor{kind: kind, field: field}, nil
}

func clip(s string) string { return s[:min(len(s), 64)] }

func plainField(s string) bool {
	return s != "" && len(s) <= 64 && nameOf(s, "-_")
}

// Kind returns the extractor's kind, "" for nil.
func (e *Extractor) Kind() string {
	if e == nil {
		return ""
	}
	return e.kind
}

// Request is what an extractor looks at.
type Request struct {
	Method string
	Host   string              // canonical, without port
	Path   string              // raw, without query
	Query  string              // raw
	Header map[string][]string // as net/http has it
	Body   []byte              // all of it; the caller has no result where it has more than MaxBody
}

// Extract returns what the request does: at least one operation, sorted, each once. An
// error means that there is no result, and says why in fixed words.
func (e *Extractor) Extract(r *Request) ([]string, error) {
	ops, err := e.read(r)
	if err != nil {
		return nil, err
	}
	slices.Sort(ops)
	ops = slices.Compact(ops)
	switch {
	case len(ops) == 0:
		return nil, errors.New("the request names no operation")
	case len(ops) > maxOperations:
		return nil, errors.New("the request has too many operations")
	}
	for _, op := range ops {
		if len(op) > maxName {
			return nil, errors.New("the operation's name is too long")
		}
	}
	return ops, nil
}

func (e *Extractor) read(r *Request) ([]string, error) {
	if len(r.Body) > MaxBody {
		return nil, ErrTooLong
	}
	if e.NeedsBody(r) { // objects of S3 are encoded as their owner likes, and chunked by SDKs
		if err := plainEncoding(r.Header); err != nil {
			return nil, err
		}
	}
	switch e.Kind() {
	case AWS:
		return readAWS(r)
	case S3:
		return readS3(r, s3Place{path: r.Path})
	case GraphQL:
		return readGraphQL(r)
	case JSONRPC:
		return readJSONRPC(r)
	case Form:
		return readForm(r, e.field)
	}
	return nil, errors.New("there is no extractor")
}

// ErrTooLong says that a body is longer than what is looked at.
var ErrTooLong = errors.New("the body is longer than what is looked at")

// NeedsBody reports whether the extractor has to see the body of such a request. What S3
// does stands in its head; its bodies are objects, of any size.
func (e *Extractor) NeedsBody(r *Request) bool {
	switch e.Kind() {
	case S3:
		return false
	case AWS:
		s, _ := serviceAt(r.Host)
		return s.prefix != s3Service
	}
	return true
}

// one makes a result of one operation.
func one(op string) ([]string, error) { return []string{op}, nil }

// nameOf reports whether s is not empty and holds only letters, digits and what more says.
func nameOf(s, more string) bool {
	for i := range len(s) {
		if c := s[i]; !letter(c) && !digit(c) && !holds(more, c) {
			return false
		}
	}
	return s != ""
}

func holds(set string, c byte) bool {
	for i := range len(set) {
		if set[i] == c {
			return true
		}
	}
	return false
}

func letter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }
func digit(c byte) bool  { return '0' <= c && c <= '9' }
