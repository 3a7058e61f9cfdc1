// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"time"
	"unicode/utf8"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/internal/secret"
)

// parse reads what a program has printed. names are the values that it must print besides
// the token. No error quotes the output.
func parse(out []byte, names []string, begun time.Time) (credential.Token, error) {
	o, err := object(out)
	if err != nil {
		return credential.Token{}, err
	}
	token := o.Text("token")
	if token == "" {
		return credential.Token{}, issuer.NotMinted("its output has no token that is a text")
	}
	values := map[string]secret.Secret{"token": secret.New(token)}
	given := o.Object("values")
	for _, n := range names {
		v := given.Text(n)
		if v == "" {
			return credential.Token{}, issuer.NotMinted("its output has no value %q that is a text", n)
		}
		values[n] = secret.New(v)
	}
	life, err := lifetime(o, begun)
	if err != nil {
		return credential.Token{}, err
	}
	return credential.Token{Values: values, Lifetime: life}, nil
}

// object decodes exactly one JSON object. A member that is not known may be one that is
// misspelt, and an expiry that is overlooked makes a credential live too long.
func object(out []byte) (issuer.Object, error) {
	if !utf8.Valid(out) { // the decoder would replace bytes of the token
		return nil, issuer.NotMinted("its output is not UTF-8")
	}
	if err := unique(out); err != nil {
		return nil, err
	}
	var o issuer.Object
	if json.Unmarshal(out, &o) != nil || o == nil {
		return nil, issuer.NotMinted(`its output must be one JSON object such as {"token": "...", "expiresIn": 3600}`)
	}
	for name := range o {
		switch name {
		case "token", "values", "expiresAt", "expiresIn":
		default:
			return nil, issuer.NotMinted("its output has a member that is none of token, values, expiresAt, expiresIn")
		}
	}
	return o, nil
}

// unique refuses an object that names a member twice: which of them counts would be a guess.
func unique(out []byte) error {
	dec := json.NewDecoder(bytes.NewReader(out))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil //nolint:nilerr // what it is instead is told by whoever decodes it
	}
	seen := map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil //nolint:nilerr // likewise
		}
		if seen[name] {
			return issuer.NotMinted("its output has a member twice")
		}
		seen[name] = true
		var skip json.RawMessage
		if err := dec.Decode(&skip); err != nil {
			return nil //nolint:nilerr // likewise
		}
	}
	return nil
}

// lifetime reads expiresIn or expiresAt, both counted from when the program was started.
// Zero: not told (MUST C5).
func lifetime(o issuer.Object, begun time.Time) (time.Duration, error) {
	at, isAt := o["expiresAt"]
	_, isIn := o["expiresIn"]
	switch {
	case isAt && isIn:
		return 0, issuer.NotMinted("its output has both expiresAt and expiresIn")
	case !isAt:
		return o.Seconds("expiresIn"), nil
	case bytes.Equal(at, []byte("null")):
		return 0, nil
	}
	end, err := time.Parse(time.RFC3339, o.Text("expiresAt"))
	if err != nil {
		return 0, issuer.NotMinted("expiresAt must be a time such as 2030-01-31T12:00:00Z (RFC 3339)")
	}
	if d := end.Sub(begun); d > 0 {
		return d, nil
	}
	return 0, fail(credential.Expired, "what it prints is over already (expiresAt)")
}

// limited collects output up to a bound and tells when there is more.
type limited struct {
	buf  bytes.Buffer
	over func()
}

var errTooLong = errors.New("too long")

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	if l.buf.Len()+len(p) > MaxOutput {
		l.over()
		return 0, errTooLong
	}
	return l.buf.Write(p)
}

// count counts what it is given and keeps none of it.
type count struct{ n int64 }

// Write implements io.Writer.
func (c *count) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

var _ io.Writer = (*limited)(nil)
