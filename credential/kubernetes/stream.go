// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"encoding/json"
	"errors"
	"io"

	"github.com/egret-proxy/egret/internal/wireerr"
)

// stream reads the events of a watch: JSON objects, one after the other.
type stream struct {
	bound *bounded
	dec   *json.Decoder
}

func newStream(r io.Reader) *stream {
	b := &bounded{r: r}
	return &stream{bound: b, dec: json.NewDecoder(b)}
}

// next returns the next event. io.EOF: the watch has ended between two of them. Its errors
// quote nothing of the stream.
func (s *stream) next() (event, error) {
	s.bound.left = maxObject
	var e event
	err := s.dec.Decode(&e)
	_, syntax := errors.AsType[*json.SyntaxError](err)
	_, kind := errors.AsType[*json.UnmarshalTypeError](err)
	switch {
	case syntax || kind:
		return event{}, errors.New("an event is no JSON of that kind")
	case errors.Is(err, errTooLarge):
		return event{}, errTooLarge
	}
	return e, wireerr.Wrap(err) // which leaves io.EOF as it is
}

// event is one of a watch: metav1.WatchEvent.
type event struct {
	Type   string          `json:"type"`
	Object json.RawMessage `json:"object"`
}

// status is metav1.Status, as far as it is of use.
type status struct {
	Code int `json:"code"`
}

// status returns the zero status where the object is none.
func (e event) status() status {
	var s status
	if json.Unmarshal(e.Object, &s) != nil {
		return status{}
	}
	return s
}

func (e event) secret() (*object, error) {
	var o object
	if json.Unmarshal(e.Object, &o) != nil || o.Metadata.ResourceVersion == "" {
		return nil, errors.New("an event of the watch holds no Secret")
	}
	return &o, nil
}

// bounded ends a stream whose next event has more bytes than are left for it.
type bounded struct {
	r    io.Reader
	left int
}

var errTooLarge = errors.New("an event has more than 4 MiB")

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLarge
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
