// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"bytes"
	"encoding/json"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// plainValue is a value as encoding/json decodes it, without what is in arrays.
func plainValue(v jsonValue) any {
	switch v.kind {
	case jsonString:
		return v.text
	case jsonObject:
		m := map[string]any{}
		for _, x := range v.members {
			m[x.name] = plainValue(x.value)
		}
		return m
	}
	return v.kind
}

func plainAny(v any) any {
	switch v := v.(type) {
	case string:
		return v
	case map[string]any:
		m := map[string]any{}
		for k, x := range v {
			m[k] = plainAny(x)
		}
		return m
	case []any:
		return jsonArray
	case bool:
		return jsonBool
	case nil:
		return jsonNull
	}
	return jsonNumber
}

// FuzzJSON: what the parser takes, encoding/json takes and reads in the same way.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{
		`{}`, `[]`, `{"a":"b","c":[1,{"d":null}],"e":{"f":true}}`, `"\u00e9\ud83d\ude00\\\/\b"`, `-0.5e+3`, `01`, `1.`, `{"a":1,"a":2}`,
		`{"a":1,}`, `[1,]`, `"` + "\x7f" + `"`, `nul`, ` {"a" : 1 } `, `"\ud800"`, `{"a":1}x`, "\ufeff{}", `"\u12"`, `-`, `[[[[]]]]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := parseJSON(b)
		if err != nil {
			if json.Valid(b) && !bytes.ContainsAny(b, "{[\\\x80\xff") && !bytes.ContainsFunc(b, func(r rune) bool { return r > 0x7e }) {
				t.Errorf("%q is refused: %v", b, err)
			}
			return
		}
		dec := json.NewDecoder(bytes.NewReader(b))
		dec.UseNumber()
		var want any
		if err := dec.Decode(&want); err != nil || dec.More() {
			t.Fatalf("%q is taken, and encoding/json says %v", b, err)
		}
		if got := plainValue(v); !reflect.DeepEqual(got, plainAny(want)) {
			t.Errorf("%q: %v, encoding/json has %v", b, got, plainAny(want))
		}
	})
}

// FuzzMember: a struct of encoding/json, which folds case, gets the same operation.
func FuzzMember(f *testing.F) {
	for _, s := range []string{`{"jsonrpc":"2.0","method":"a"}`, `{"jsonrpc":"2.0","Method":"a"}`, `{"jsonrpc":"2.0","method":"tools/call","params":{"name":"x","Name":"y"}}`, `{"jsonrpc":"2.0","\u006dethod":"a","id":1}`} {
		f.Add([]byte(s))
	}
	e, _ := New(JSONRPC, "")
	f.Fuzz(func(t *testing.T, b []byte) {
		ops, err := e.Extract(&Request{Method: "POST", Path: "/", Header: map[string][]string{"Content-Type": {"application/json"}}, Body: b})
		if err != nil {
			return
		}
		var call struct {
			Method string
			Params json.RawMessage
		}
		var params struct{ Name string }
		if err := json.Unmarshal(b, &call); err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		want := call.Method
		if want == toolsCall {
			_ = json.Unmarshal(call.Params, &params)
			want += ":" + params.Name
		}
		if !slices.Equal(ops, []string{want}) {
			t.Errorf("%q: %q, want %q", b, ops, want)
		}
	})
}

// FuzzForm: a field that is taken is what net/url reads, and the only one in any case.
func FuzzForm(f *testing.F) {
	for _, s := range []string{"Action=A", "a=1&Action=B&b=%20+", "Action=A&action=B", "%41ction=C", "Action", "&&Action=D&", "Action=A%26Action=B", "x;Action=E"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		pairs, err := parsePairs(s)
		if err != nil {
			return
		}
		value, found, err := field(pairs, "Action")
		if err != nil || !found {
			return
		}
		q, err := url.ParseQuery(s)
		if err != nil || len(q["Action"]) != 1 || q.Get("Action") != value {
			t.Errorf("%q: %q, net/url has %q, %v", s, value, q["Action"], err)
		}
		for name := range q {
			if name != "Action" && strings.EqualFold(name, "Action") {
				t.Errorf("%q holds %q too", s, name)
			}
		}
	})
}

// FuzzGraphQL: every root field stands in the document by its name, reading ends, and
// white space between tokens changes nothing.
func FuzzGraphQL(f *testing.F) {
	for _, s := range []string{
		`{a}`, `query A($x:[I!]=1@d){b:c(d:{e:"f"})@g{h}...I...on J{k}}fragment I on J{l}`, `mutation{a(b:"""c\"""""")}`, `{a(b:"\u{1F600}\\")}`,
		`{...F}fragment F on Q{...F a}`, `subscription S{s}#x`, "{a,b\ufeff}", `{a(b:-1.5e3)}`, `{a(`, `{a:b:c}`, `query`, `{a}{b}`,
	} {
		f.Add(s, "")
	}
	f.Fuzz(func(t *testing.T, doc, name string) {
		d, err := parseDocument(doc)
		if err != nil {
			return
		}
		ops, err := d.rootFields(name)
		if err != nil {
			return
		}
		if len(ops) == 0 {
			t.Errorf("%q has no root field", doc)
		}
		for _, op := range ops {
			kind, field, _ := strings.Cut(op, ":")
			if !slices.Contains([]string{"query", "mutation", "subscription"}, kind) || !nameOf(field, "_") || !strings.Contains(doc, field) {
				t.Errorf("%q: %q", doc, op)
			}
		}
		again, err := parseDocument(" \n" + doc + "\n,# end")
		if err != nil {
			t.Fatalf("%q: with white space around it: %v", doc, err)
		}
		if more, _ := again.rootFields(name); !slices.Equal(more, ops) {
			t.Errorf("%q: %q, with white space %q", doc, ops, more)
		}
	})
}

// FuzzExtract: whatever comes, a result is sorted, bounded and of printable ASCII, and an
// error says nothing of the request.
func FuzzExtract(f *testing.F) {
	f.Add(uint8(0), "POST", "sts.amazonaws.com", "/", "", typeForm, "", []byte("Action=AssumeRole"))
	f.Add(uint8(0), "GET", "b.s3.amazonaws.com", "/k", "acl", "", "", []byte{})
	f.Add(uint8(0), "POST", "dynamodb.us-east-1.amazonaws.com", "/", "", "application/x-amz-json-1.0", "DynamoDB_20120810.GetItem", []byte("{}"))
	f.Add(uint8(2), "POST", "x", "/", "", typeJSON, "", []byte(`{"query":"{a}"}`))
	f.Add(uint8(3), "POST", "x", "/", "", typeJSON, "", []byte(`{"jsonrpc":"2.0","method":"a"}`))
	f.Add(uint8(4), "GET", "x", "/", "action=a", "", "", []byte{})
	var all []*Extractor
	for _, kind := range Kinds() {
		field := ""
		if kind == Form {
			field = "action"
		}
		e, _ := New(kind, field)
		all = append(all, e)
	}
	f.Fuzz(func(t *testing.T, kind uint8, method, host, path, query, contentType, target string, body []byte) {
		h := map[string][]string{"Content-Type": {contentType}}
		if target != "" {
			h["X-Amz-Target"] = []string{target}
		}
		ops, err := all[int(kind)%len(all)].Extract(&Request{Method: method, Host: host, Path: path, Query: query, Header: h, Body: body})
		if (err == nil) != (len(ops) > 0) || !slices.IsSorted(ops) || len(ops) > maxOperations {
			t.Fatalf("%q, %v", ops, err)
		}
		for _, op := range ops {
			if len(op) > maxName || strings.IndexFunc(op, func(r rune) bool { return r <= ' ' || r >= 0x7f }) >= 0 {
				t.Errorf("%q", op)
			}
		}
	})
}
