// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package issuer_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer"
)

const js = "application/json"

func answer(status int, body string, header ...string) *issuer.Answer {
	a := &issuer.Answer{Status: status, Header: http.Header{}, Body: []byte(body)}
	for i := 0; i+1 < len(header); i += 2 {
		a.Header.Set(header[i], header[i+1])
	}
	return a
}

func TestObjectIsStrict(t *testing.T) {
	for _, typ := range []string{js, js + "; charset=UTF-8", "application/problem+json", "Application/JSON"} {
		if _, err := answer(200, `{"a":1}`, "Content-Type", typ).Object(); err != nil {
			t.Errorf("%s: %v", typ, err)
		}
	}
	for _, bad := range []*issuer.Answer{
		answer(200, `{}`), answer(200, `{}`, "Content-Type", "text/html"), answer(200, `{}`, "Content-Type", ";"),
		answer(200, `{}`, "Content-Type", "application/jsonp"), answer(200, ``, "Content-Type", js), answer(200, `null`, "Content-Type", js),
		answer(200, `[1]`, "Content-Type", js), answer(200, `{"a":1}{}`, "Content-Type", js), answer(200, "{\"a\":\"\xff\"}", "Content-Type", js),
	} {
		_, err := bad.Object()
		kind(t, err, credential.NotMinted)
	}
}

func TestMembersHaveExactNamesAndTypes(t *testing.T) {
	o, err := answer(200, `{"s":"x","n":7,"b":true,"o":{"in":"y","deep":{"z":"zz"}},"Token":"no","null":null}`, "Content-Type", js).Object()
	if err != nil {
		t.Fatal(err)
	}
	if o.Text("s") != "x" || !o.Bool("b") || o.Object("o").Text("in") != "y" || o.Object("o").Object("deep").Text("z") != "zz" {
		t.Errorf("%v", o)
	}
	for _, name := range []string{"n", "token", "null", "absent", "o"} {
		if o.Text(name) != "" || o.Bool(name) {
			t.Errorf("%s is a text or true", name)
		}
	}
	if in := o.Object("absent"); in.Text("x") != "" || in.Object("y").Bool("z") || in.Seconds("n") != 0 || o.Object("s") != nil {
		t.Error("a nil object must have no members")
	}
}

func TestMUST_C5_LifetimesThatAreToldWrong(t *testing.T) {
	for raw, want := range map[string]time.Duration{
		``: 0, `null`: 0, `0`: 0, `-1`: 0, `"-1"`: 0, `""`: 0, `"soon"`: 0, `true`: 0, `{}`: 0, `[3600]`: 0, `"NaN"`: 0, `"-Inf"`: 0,
		`3600`: time.Hour, `"3600"`: time.Hour, `3600.5`: time.Hour + 500*time.Millisecond, `3.6e3`: time.Hour, `" 60 "`: time.Minute,
		`31536000`: 365 * 24 * time.Hour, `1e-300`: 1,
		`1e300`: math.MaxInt64 / 2, `"Inf"`: math.MaxInt64 / 2, `99999999999999999999`: math.MaxInt64 / 2,
	} {
		if got := (issuer.Object{"n": []byte(raw)}).Seconds("n"); got != want {
			t.Errorf("%s: %s, want %s", raw, got, want)
		}
	}
}

func TestMUST_C5_TimesAreTakenAgainstTheIssuersClock(t *testing.T) {
	const date = "Mon, 02 Jan 2006 15:04:05 GMT"
	for text, want := range map[string]time.Duration{
		"2006-01-02T16:04:05Z": time.Hour, "2006-01-02T16:04:05+01:00": 1, "2006-01-02T15:04:06.5Z": 1500 * time.Millisecond,
		"2006-01-02T15:04:05Z": 1, "1999-01-01T00:00:00Z": 1, "": 0, "tomorrow": 0, "3600": 0,
	} {
		o := issuer.Object{"until": []byte(`"` + text + `"`)}
		if got := answer(200, "", "Date", date).Until(o, "until"); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	o := issuer.Object{"until": []byte(`"` + time.Now().Add(time.Hour).Format(time.RFC3339) + `"`)}
	if got := answer(200, "", "Date", "?").Until(o, "until"); got < 59*time.Minute || got > time.Hour {
		t.Errorf("without a Date: %s", got)
	}
}

func TestMUST_C5_AgeOfACachedAnswerCounts(t *testing.T) {
	for age, want := range map[string]time.Duration{"": time.Hour, "600": 50 * time.Minute, "9999": 1, "-1": time.Hour, "x": time.Hour} {
		if got := answer(200, "", "Age", age).LessAge(time.Hour); got != want {
			t.Errorf("%q: %s, want %s", age, got, want)
		}
	}
	if got := answer(200, "", "Age", "5").LessAge(0); got != 0 {
		t.Errorf("what is not told has no age: %s", got)
	}
}

func TestMUST_C8_RetryAfterForms(t *testing.T) {
	const date, later = "Mon, 02 Jan 2006 15:04:05 GMT", "Mon, 02 Jan 2006 15:05:05 GMT"
	for _, c := range []struct {
		after, date string
		want        time.Duration
	}{
		{"", "", 0},
		{"0", "", 0},
		{"7", "", 7 * time.Second},
		{"-7", "", 0},
		{"7.5", "", 0},
		{"+7", "", 0},
		{"99999999999", "", 0},
		{"soon", date, 0},
		{later, date, time.Minute},
		{date, later, 0},
		{later, "", 0},
		{"Monday, 02-Jan-06 15:05:05 GMT", date, time.Minute},
		{"Mon Jan  2 15:05:05 2006", date, time.Minute},
	} {
		if got := answer(429, "", "Retry-After", c.after, "Date", c.date).RetryAfter(); got != c.want {
			t.Errorf("%q at %q: %s, want %s", c.after, c.date, got, c.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
		kind   credential.Kind
		text   string
	}{
		{200, "", credential.NotMinted, "status 200"},
		{302, "denied", credential.NotMinted, "status 302: redirects are not followed"},
		{400, "", credential.NotMinted, "status 400"},
		{400, "hush", credential.NotMinted, "status 400"},
		{400, "denied", credential.Refused, "status 400, denied"},
		{401, "hush", credential.Refused, "status 401"},
		{403, "denied", credential.Refused, "status 403, denied"},
		{404, "", credential.NotMinted, "status 404"},
		{408, "", credential.Unreachable, "status 408"},
		{429, "denied", credential.Unreachable, "status 429, denied"},
		{500, "hush", credential.Unreachable, "status 500"},
	} {
		err := answer(c.status, "", "Retry-After", "9").Refusal(c.code, "", "denied")
		if e := kind(t, err, c.kind); e.Err.Error() != c.text || e.RetryAfter != 9*time.Second {
			t.Errorf("%d %q: %v, %s", c.status, c.code, e.Err, e.RetryAfter)
		}
	}
}

func TestWithinKeepsTheKind(t *testing.T) {
	err := issuer.Within("outer", &credential.Error{Kind: credential.Refused, RetryAfter: 5, Err: io.EOF})
	if e := kind(t, err, credential.Refused); e.RetryAfter != 5 || !errors.Is(err, io.EOF) || e.Err.Error() != "outer: EOF" {
		t.Errorf("%v", err)
	}
	kind(t, issuer.Within("outer", fmt.Errorf("any: %w", issuer.NotMinted("x"))), credential.NotMinted)
	kind(t, issuer.Within("outer", io.EOF), credential.Unreachable)
}

func FuzzObject(f *testing.F) {
	f.Add(js, `{"token":"t","life":3600,"until":"2006-01-02T16:04:05Z","o":{"life":"1e400"}}`, "5", "Mon, 02 Jan 2006 15:05:05 GMT")
	f.Add(js+"; charset=utf-8", `{"life":-0.1}`, "-1", "7")
	f.Add("text/html", "<html>", "", "x")
	f.Fuzz(func(t *testing.T, ct, body, age, after string) {
		a := answer(200, body, "Content-Type", ct, "Age", age, "Retry-After", after)
		if a.RetryAfter() < 0 || a.LessAge(time.Hour) <= 0 {
			t.Fatal("negative time")
		}
		o, err := a.Object()
		if err != nil {
			if len(body) > 3 && strings.Contains(err.Error(), body) {
				t.Fatalf("quoted: %v", err)
			}
			return
		}
		for name := range o {
			if o.Seconds(name) < 0 || a.Until(o, name) < 0 || o.Object(name).Seconds("life") < 0 {
				t.Fatalf("%s is negative", name)
			}
		}
	})
}
