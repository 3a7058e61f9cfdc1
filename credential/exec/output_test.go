// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/credential"
)

func TestParseRefuses(t *testing.T) {
	for out, want := range map[string]string{
		"":                                    "must be one JSON object",
		"null":                                "must be one JSON object",
		`["hush"]`:                            "must be one JSON object",
		`"hush"`:                              "must be one JSON object",
		`{"token":"hush"}{"token":"hush"}`:    "must be one JSON object",
		`{"token":"hush"} hush`:               "must be one JSON object",
		"{\"token\":\"hush\xff\"}":            "not UTF-8",
		`{}`:                                  "no token",
		`{"token":""}`:                        "no token",
		`{"token":7}`:                         "no token",
		`{"token":["hush"]}`:                  "no token",
		`{"Token":"hush"}`:                    "none of token, values, expiresAt, expiresIn",
		`{"token":"hush","expires_in":60}`:    "none of token, values, expiresAt, expiresIn",
		`{"token":"hush","token":"hush"}`:     "a member twice",
		`{"token":"hush","to\u006ben":"x"}`:   "a member twice",
		`{"token":"hush","expiresAt":"hush"}`: "must be a time such as",
		`{"token":"hush","expiresAt":60}`:     "must be a time such as",
		`{"token":"hush","expiresAt":"2000-01-01T00:00:00Z"}`:                    "over already",
		`{"token":"hush","expiresAt":"2100-01-01T00:00:00Z","expiresIn":"hush"}`: "both expiresAt and expiresIn",
	} {
		_, err := parse([]byte(out), nil, time.Now())
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v, want %q", out, err, want)
		}
	}
	for _, values := range []string{`{}`, `{"username":""}`, `{"username":7}`, `["username"]`, `null`, `{"Username":"u"}`} {
		if _, err := parse([]byte(`{"token":"t","values":`+values+`}`), []string{"username"}, time.Now()); err == nil {
			t.Errorf("values %s was taken", values)
		}
	}
}

func TestMUST_C5_Lifetimes(t *testing.T) {
	begun := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for more, want := range map[string]time.Duration{
		``: 0, `,"expiresIn":null`: 0, `,"expiresIn":0`: 0, `,"expiresIn":-1`: 0, `,"expiresIn":"soon"`: 0, `,"expiresAt":null`: 0,
		`,"expiresIn":60`: time.Minute, `,"expiresIn":"60"`: time.Minute, `,"expiresIn":0.5`: time.Second / 2,
		`,"expiresAt":"2030-01-01T01:00:00Z"`: time.Hour, `,"expiresAt":"2030-01-01T01:00:00.5+01:00"`: time.Second / 2,
	} {
		tok, err := parse([]byte(`{"token":"t"`+more+`}`), nil, begun)
		if err != nil || tok.Lifetime != want {
			t.Errorf("%s: %s, %v; want %s", more, tok.Lifetime, err, want)
		}
	}
	if tok, err := parse([]byte(`{"token":"t","expiresIn":1e300}`), nil, begun); err != nil || tok.Lifetime < 1000*time.Hour {
		t.Errorf("absurd must stay absurd: %s, %v", tok.Lifetime, err)
	}
}

func TestMUST_C10_TokenIsOpaque(t *testing.T) {
	for _, want := range []string{"x", strings.Repeat("A.b_", 4000), "a b\"\\/ü=="} {
		b, err := json.Marshal(map[string]string{"token": want})
		if err != nil {
			t.Fatal(err)
		}
		if tok, err := parse(append(b, '\n'), nil, time.Now()); err != nil || tok.Values["token"].Reveal() != want {
			t.Errorf("%.20q: %v", want, err)
		}
	}
}

// FuzzParse: what is taken has the token that it says, and an error is of a kind and
// quotes nothing.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`{"token":"t0k3n-t0k3n","expiresIn":60}`, `{"token":"t0k3n-t0k3n","values":{"username":"u"},"expiresAt":"2030-01-01T00:00:00Z"}`,
		`{"token":"t0k3n-t0k3n","token":"x"}`, `[`, `{"token":1}`, "\xff",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, out []byte) {
		tok, err := parse(out, []string{"username"}, time.Now())
		if err != nil {
			e, ok := errors.AsType[*credential.Error](err)
			if !ok || e.Kind != credential.NotMinted && e.Kind != credential.Expired || strings.Contains(e.Error(), "t0k3n-t0k3n") {
				t.Errorf("%q: %v", out, err)
			}
			return
		}
		var is struct {
			Token  string         `json:"token"`
			Values map[string]any `json:"values"`
		}
		if json.Unmarshal(out, &is) != nil || is.Token != tok.Values["token"].Reveal() || tok.Values["username"].IsZero() || tok.Lifetime < 0 {
			t.Errorf("%q made %s", out, tok.Values)
		}
	})
}
