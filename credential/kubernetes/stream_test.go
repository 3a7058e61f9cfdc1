// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestStream(t *testing.T) {
	const one = `{"type":"ADDED","object":{"metadata":{"resourceVersion":"1"}}}`
	for name, tc := range map[string]struct {
		text   string
		events int
		want   string // "": io.EOF
	}{
		"none":             {"", 0, ""},
		"two":              {one + "\n" + one + "\n", 2, ""},
		"without line end": {one + one, 2, ""},
		"breaks off":       {one + one[:20], 1, "middle of its answer"},
		"no JSON":          {one + "hush", 1, "no JSON of that kind"},
		"an array":         {one + "[1]", 1, "no JSON of that kind"},
		"too large":        {one + `{"type":"` + strings.Repeat("x", 2*maxObject), 1, "more than 4 MiB"},
		"many":             {strings.Repeat(one+"\n", 2*maxObject/len(one)), 2 * maxObject / len(one), ""},
	} {
		s, n := newStream(strings.NewReader(tc.text)), 0
		var err error
		for err == nil {
			if _, err = s.next(); err == nil {
				n++
			}
		}
		if n != tc.events || tc.want == "" && !errors.Is(err, io.EOF) || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %d events, %v", name, n, err)
		}
	}
}

// FuzzEvents: whatever a watch tells, only an event about this very Secret makes a value,
// and after an error the Secret is listed anew.
func FuzzEvents(f *testing.F) {
	f.Add(`{"type":"ADDED","object":{"metadata":{"name":"db","namespace":"shop","resourceVersion":"1"},"data":{"k":"aHVzaA=="}}}`)
	f.Add(`{"type":"DELETED","object":{"metadata":{"name":"db","namespace":"shop","resourceVersion":"2"}}}`)
	f.Add(`{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"3"}}}`)
	f.Add(`{"type":"ERROR","object":{"kind":"Status","code":410}}`)
	f.Add(`{"type":"MODIFIED","object":{"metadata":{"name":"other","namespace":"shop","resourceVersion":"1"},"data":{"k":"aHVzaA=="}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		s := &Secret{cfg: SecretConfig{Namespace: "shop", Name: "db", Key: "k"}, changes: make(chan struct{}, 1)}
		fo := &follower{secret: s, version: "0"}
		in := newStream(strings.NewReader(text))
		for {
			e, err := in.next()
			if err != nil {
				return
			}
			before := s.now
			if err := fo.event(e); err != nil {
				if !s.now.same(before) {
					t.Errorf("%q: an error, and another value", text)
				}
				return
			}
			if fo.version == "" {
				t.Errorf("%q: no version to go on from", text)
			}
			token := s.now.token.Values["token"]
			if o, err := e.secret(); !token.IsZero() && !s.now.same(before) && (err != nil || !s.is(o) || string(o.Data["k"]) == "") {
				t.Errorf("%q made a value", text)
			}
		}
	})
}
