// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package secret

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const word = "xoxb-very-secret"

// holder has a Secret wherever a struct can have one, the places included in which a
// string type would be printed.
type holder struct {
	Public  Secret
	private Secret
	List    []Secret
	ByName  map[string]Secret
	As      any
	inner   struct{ deep Secret }
}

// named is what encoding/xml can name an element after.
type named struct{ S Secret }

func full() holder {
	s := New(word)
	h := holder{Public: s, private: s, List: []Secret{s}, ByName: map[string]Secret{"k": s}, As: s}
	h.inner.deep = s
	return h
}

// Every way in which the standard library makes text of a value is silent.
func TestMUST_C9_ASecretCannotBePrinted(t *testing.T) {
	s, h := New(word), full()
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%c", "%U", "%b", "%o", "%e", "%p", "%w", "%10.3s"} {
		for _, v := range []any{s, &s, h, &h, []any{s, h}, map[Secret]int{s: 1}, fmt.Errorf("wrapped: %v", s)} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	for _, v := range []any{s, &s, h, map[string]any{"s": s}} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
	}
	if b, err := xml.Marshal(named{s}); err != nil {
		t.Fatal(err)
	} else {
		out.Write(b)
	}
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Info("x", "s", s, "p", &s, "h", h, slog.Group("g", "s", s))
	}
	y, err := s.MarshalYAML()
	fmt.Fprint(&out, y, err, s.String(), s.GoString())
	if text := out.String(); strings.Contains(text, "very-secret") || strings.Contains(text, fmt.Sprintf("%x", word)) || strings.Contains(text, fmt.Sprintf("%d", []byte(word))) {
		t.Error("the secret was printed:\n" + text)
	}
	if !strings.Contains(out.String(), Redacted) {
		t.Error("nothing says that something was left out")
	}
}

func TestRevealEqualFingerprint(t *testing.T) {
	a, b, none := New(word), New(word), New("")
	if a.Reveal() != word || !a.Equal(b) || a.Equal(none) || a.Equal(New("other")) || a.IsZero() || !none.IsZero() || none.Reveal() != "" || !none.Equal(Secret{}) {
		t.Error("a secret is not what it was made of")
	}
	fp := a.Fingerprint()
	if fp != b.Fingerprint() || fp == New("other").Fingerprint() || !strings.HasPrefix(fp, "sha256:") || len(fp) != len("sha256:")+12 || none.Fingerprint() != "" {
		t.Errorf("fingerprints %q, %q", fp, none.Fingerprint())
	}
}
