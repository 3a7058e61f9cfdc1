// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestAppendJSONIsThisLine(t *testing.T) {
	r := record("01J")
	got := string(r.AppendJSON(nil))
	want := `{"schema":"egret.dev/record/v1","kind":"request","time":"2026-11-21T12:00:00.123456Z","id":"01J",` +
		`"node":"node-1","listener":"local","workload":"spiffe://acme.example/ns/qa/sa/dashboard","evidence":"sidecar",` +
		`"owner":"qa@acme.example","policy":"dashboard-posts-to-slack","policy_digest":"3f2a","policy_set":"5e7b","credential":"slack-bot",` +
		`"fingerprint":"sha256:0123456789ab","environment":"production","method":"POST","host":"slack.com","port":443,` +
		`"path_template":"/api/chat.postMessage","status":200,"verdict":"allow","caller_credential":"none",` +
		`"bytes_in":120,"bytes_out":4096,"t_identity":3,"t_policy":2,"t_credential":5,"t_upstream":80000,"t_total":81000,` +
		`"proto":"h2","upstream_ip":"192.0.2.7","upstream_request_id":"req-9"}`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAppendJSONOfTheZeroRecord(t *testing.T) {
	got := string((&Record{}).AppendJSON(nil))
	want := `{"schema":"","kind":"","time":"0001-01-01T00:00:00.000000Z","id":"","verdict":"","bytes_in":0,"bytes_out":0,` +
		`"t_identity":0,"t_policy":0,"t_credential":0,"t_upstream":0,"t_total":0}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// filled sets every field of a Record to something that is not its zero value, so that
// a field which the encoder forgets is found.
func filled(t testing.TB) Record {
	t.Helper()
	var r Record
	v := reflect.ValueOf(&r).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Interface().(type) {
		case string:
			f.SetString("value of " + v.Type().Field(i).Name)
		case time.Time:
			f.Set(reflect.ValueOf(start))
		case time.Duration:
			f.SetInt(int64(i+1) * int64(time.Microsecond))
		case int, int64:
			f.SetInt(int64(i + 1))
		case uint16:
			f.SetUint(uint64(i + 1))
		case bool:
			f.SetBool(true)
		default:
			t.Fatalf("field %s has a type that this test does not know", v.Type().Field(i).Name)
		}
	}
	return r
}

// plainRecord has the fields and tags of Record without its methods: what the struct's
// tags alone say.
type plainRecord Record

func TestEncoderAgreesWithStructTags(t *testing.T) {
	for name, r := range map[string]Record{"filled": filled(t), "zero": {}, "usual": record("01J")} {
		t.Run(name, func(t *testing.T) {
			inMicros := plainRecord(r)
			for _, d := range []*time.Duration{
				&inMicros.TIdentity, &inMicros.TPolicy, &inMicros.TCredential, &inMicros.TUpstream, &inMicros.TTotal,
			} {
				*d /= time.Microsecond
			}
			want, err := json.Marshal(inMicros)
			if err != nil {
				t.Fatal(err)
			}
			// Only the form of the time differs: encoding/json cuts zeros.
			got := bytes.Replace(r.AppendJSON(nil), []byte(".000000Z"), []byte("Z"), 1)
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRecordSurvivesJSON(t *testing.T) {
	want := filled(t)
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Record
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestUnmarshalFaults(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"no object":       {`[]`, "audit record: json: cannot unmarshal array"},
		"absurd duration": {`{"t_total":9223372036854775807}`, "audit record: 9223372036854775807 microseconds is out of range"},
		"absurd negative": {`{"t_policy":-9223372036854775807}`, "is out of range"},
		"port too large":  {`{"port":65536}`, "audit record: json: cannot unmarshal number 65536"},
	} {
		t.Run(name, func(t *testing.T) {
			r := record("kept")
			err := json.Unmarshal([]byte(tc.in), &r)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
			if r != record("kept") {
				t.Error("the record was changed by a fault")
			}
		})
	}
}

func TestUnmarshalIgnoresWhatIsNewer(t *testing.T) {
	var r Record
	if err := json.Unmarshal([]byte(`{"schema":"egret.dev/record/v1","id":"x","invented_later":{"a":1}}`), &r); err != nil {
		t.Fatal(err)
	}
	if r.ID != "x" {
		t.Errorf("id %q", r.ID)
	}
}

func TestMUST_A2_JSONStringsAreSafeOnATerminal(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"plain":            {"/api/v1", `"/api/v1"`},
		"quote, backslash": {`a"b\c`, `"a\"b\\c"`},
		"newline forges":   {"x\n{\"verdict\":\"allow\"}", `"x\u000a{\"verdict\":\"allow\"}"`},
		"escape sequence":  {"\x1b[2J\x07", `"\u001b[2J\u0007"`},
		"nul and del":      {"\x00\x7f", `"\u0000\u007f"`},
		"C1 CSI":           {"\u009b31m", `"\u009b31m"`},
		"line separators":  {"\u2028\u2029", `"\u2028\u2029"`},
		"bidi":             {"\u202egpj.exe\u2066\u2069\u200f\u061c", `"\u202egpj.exe\u2066\u2069\u200f\u061c"`},
		"zero width":       {"a\u200bb\ufeff", `"a\u200bb\ufeff"`},
		"tag characters":   {"\U000e0041", `"\udb40\udc41"`},
		"invalid UTF-8":    {"a\xffb\xc3", "\"a\ufffdb\ufffd\""},
		"U+FFFD itself":    {"\ufffd", "\"\ufffd\""},
		"words":            {"Grüße, 世界 🐦", `"Grüße, 世界 🐦"`},
		"html is kept":     {"<b>&", `"<b>&"`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := string(appendString(nil, tc.in)); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

// Property: one line without anything that a terminal acts on, and a JSON reader gets
// the text back.
func FuzzMUST_A2_AppendString(f *testing.F) {
	for _, s := range []string{"", "a", "\x1b]0;x\x07", "\u202e", "\xff\xfe", "\"\\", "\U000e0041", "\ud7ff\ue000", "日本"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b := appendString([]byte("kept"), s)[len("kept"):]
		for _, r := range string(b) {
			if !unicode.IsPrint(r) {
				t.Fatalf("%q gave %q with %U", s, b, r)
			}
		}
		if !utf8.Valid(b) {
			t.Fatalf("%q gave invalid UTF-8 %q", s, b)
		}
		var got string
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%q gave %q: %v", s, b, err)
		}
		// What range yields for invalid bytes is U+FFFD, one for each.
		if want := string([]rune(s)); got != want {
			t.Fatalf("%q came back as %q", s, got)
		}
	})
}

// Property: any record is one line of JSON and comes back as it was, times and durations
// cut to microseconds.
func FuzzRecordJSON(f *testing.F) {
	f.Add("id", "/a\n", "\x1b", int64(1), int64(-1), int64(1<<40), uint16(443), 200, true)
	f.Fuzz(func(t *testing.T, id, path, detail string, in, micros, sec int64, port uint16, status int, observed bool) {
		want := Record{
			ID: id, PathTemplate: path, Detail: detail, BytesIn: in, TTotal: time.Duration(micros % 1e15 * 1000),
			Time: time.Unix(sec%200e9, 0).UTC(), Port: port, Status: status, Observed: observed,
		}
		b := want.AppendJSON(nil)
		if bytes.ContainsAny(b, "\n\r") {
			t.Fatalf("%q is more than one line", b)
		}
		want.ID, want.PathTemplate, want.Detail = string([]rune(id)), string([]rune(path)), string([]rune(detail))
		var got Record
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzAppendTime(f *testing.F) {
	for _, t := range []time.Time{{}, start, time.Unix(0, 0), time.Date(-1, 2, 29, 23, 59, 59, 999999999, time.UTC), time.Date(10000, 1, 1, 0, 0, 0, 1, time.UTC)} {
		f.Add(t.Unix(), int64(t.Nanosecond()), 3600)
	}
	f.Fuzz(func(t *testing.T, sec, nsec int64, east int) {
		at := time.Unix(sec, nsec).In(time.FixedZone("", east%86400))
		if got, want := string(appendTime(nil, at)), at.UTC().Format(timeFormat); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestAppendJSONDoesNotAllocate(t *testing.T) {
	r, buf := record("01J"), make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() { buf = r.AppendJSON(buf[:0]) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	r, buf := record("01J"), make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = r.AppendJSON(buf[:0])
	}
	b.SetBytes(int64(len(buf)))
}
