// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// ask is a request in a table; what is empty has the default of its kind.
type ask struct {
	method, host, path, query string
	header                    []string // name, value, …
	body                      string
}

func (a ask) request(contentType string) *Request {
	r := &Request{Method: a.method, Host: a.host, Path: a.path, Query: a.query, Header: map[string][]string{}, Body: []byte(a.body)}
	if r.Method == "" {
		r.Method = "POST"
	}
	if r.Path == "" {
		r.Path = "/"
	}
	if contentType != "" && len(r.Body) > 0 {
		r.Header["Content-Type"] = []string{contentType}
	}
	for i := 0; i+1 < len(a.header); i += 2 {
		switch name, value := a.header[i], a.header[i+1]; {
		case value == "":
			delete(r.Header, name)
		case strings.HasPrefix(value, "="):
			r.Header[name] = []string{value[1:]}
		default:
			r.Header[name] = append(r.Header[name], value)
		}
	}
	return r
}

func extractor(t testing.TB, kind, field string) *Extractor {
	t.Helper()
	e, err := New(kind, field)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// table runs cases; "" means no result.
func table(t *testing.T, e *Extractor, contentType string, cases map[string]struct {
	ask  ask
	want string
},
) {
	t.Helper()
	for name, tc := range cases {
		got, err := e.Extract(tc.ask.request(contentType))
		if (err == nil) == (tc.want == "") || strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, tc.want)
		}
		if err != nil && (len(got) > 0 || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%s: %q with error %v", name, got, err)
		}
	}
}

type cases = map[string]struct {
	ask  ask
	want string
}

func TestNew(t *testing.T) {
	for _, bad := range [][2]string{{"", ""}, {"AWS", ""}, {"aws", "x"}, {"form", ""}, {"form", "a b"}, {"form", strings.Repeat("a", 65)}, {"graphql", "query"}} {
		if e, err := New(bad[0], bad[1]); err == nil || e != nil {
			t.Errorf("New(%q, %q) gave %v", bad[0], bad[1], e)
		}
	}
	for _, kind := range Kinds() {
		field := ""
		if kind == Form {
			field = "action"
		}
		if e := extractor(t, kind, field); e.Kind() != kind {
			t.Errorf("kind %q", e.Kind())
		}
	}
}

func TestTheZeroExtractorHasNoResult(t *testing.T) {
	for _, e := range []*Extractor{nil, {}} {
		if ops, err := e.Extract((ask{method: "GET", query: "Action=A", host: "sts.amazonaws.com"}).request("")); err == nil {
			t.Errorf("%v", ops)
		}
		if e.Kind() != "" {
			t.Errorf("kind %q", e.Kind())
		}
	}
}

func TestMUST_H15_WhatCanBeReadInTwoWaysHasNoResult_Form(t *testing.T) {
	const form, wide = typeForm, "%C0%AE"
	table(t, extractor(t, Form, "action"), form, cases{
		"plain":                 {ask{body: "action=read&x=1"}, "read"},
		"escaped":               {ask{body: "%61ction=re%61d"}, "read"},
		"charset":               {ask{body: "action=read", header: []string{"Content-Type", "=" + form + "; charset=UTF-8"}}, "read"},
		"of a GET":              {ask{method: "GET", query: "a=1&action=read"}, "read"},
		"identity":              {ask{body: "action=read", header: []string{"Content-Encoding", "identity"}}, "read"},
		"JSON":                  {ask{body: `{"action":"read","x":{"action":1}}`, header: []string{"Content-Type", "=application/json"}}, "read"},
		"charset of its own":    {ask{body: "action=read&_charset_=utf-16"}, ""},
		"charset in the query":  {ask{method: "GET", query: "action=read&_Charset_=utf-7"}, ""},
		"absent":                {ask{body: "x=1"}, ""},
		"empty":                 {ask{body: "action=&x=1"}, ""},
		"twice":                 {ask{body: "action=read&action=delete"}, ""},
		"twice alike":           {ask{body: "action=read&action=read"}, ""},
		"another case":          {ask{body: "action=read&Action=delete"}, ""},
		"only another case":     {ask{body: "Action=read"}, ""},
		"index":                 {ask{body: "action=read&action[]=delete"}, ""},
		"leading space":         {ask{body: "action=read&+action=delete"}, ""},
		"fragment":              {ask{method: "GET", query: "x=1#&action=read"}, ""},
		"Kelvin":                {ask{body: "action=read&%E2%84%AA=1&act\u0131on=delete"}, ""},
		"semicolon":             {ask{body: "action=read;action=delete"}, ""},
		"semicolon in a value":  {ask{body: "x=1;action=delete&action=read"}, ""},
		"query too":             {ask{body: "action=read", query: "ACTION=delete"}, ""},
		"GET with body":         {ask{method: "GET", query: "action=read", body: "action=delete"}, ""},
		"bad escape":            {ask{body: "action=read&x=%zz"}, ""},
		"cut escape":            {ask{body: "action=read%6"}, ""},
		"NUL":                   {ask{body: "action=read%00delete"}, ""},
		"overlong UTF-8":        {ask{body: "action=read&x=" + wide}, ""},
		"line end":              {ask{body: "action=read\r\n"}, ""},
		"odd bytes":             {ask{body: "action=read hunter2"}, ""},
		"no type":               {ask{body: "action=read", header: []string{"Content-Type", ""}}, ""},
		"two types":             {ask{body: "action=read", header: []string{"Content-Type", "application/json"}}, ""},
		"two types, underscore": {ask{body: "action=read", header: []string{"content_type", "application/json"}}, ""},
		"types in a list":       {ask{body: "action=read", header: []string{"Content-Type", "=" + form + ", application/json"}}, ""},
		"another type":          {ask{body: "action=read", header: []string{"Content-Type", "=text/plain"}}, ""},
		"another charset":       {ask{body: "action=read", header: []string{"Content-Type", "=" + form + "; charset=utf-16"}}, ""},
		"another parameter":     {ask{body: "action=read", header: []string{"Content-Type", "=" + form + "; boundary=x"}}, ""},
		"gzip":                  {ask{body: "action=read", header: []string{"Content-Encoding", "gzip"}}, ""},
		"gzip, underscore":      {ask{body: "action=read", header: []string{"content_encoding", "gzip"}}, ""},
		"JSON twice":            {ask{body: `{"action":"read","action":"delete"}`, header: []string{"Content-Type", "=application/json"}}, ""},
		"JSON other case":       {ask{body: `{"action":"read","Action":"delete"}`, header: []string{"Content-Type", "=application/json"}}, ""},
		"JSON folded":           {ask{body: `{"action":"read","action[]":"delete"}`, header: []string{"Content-Type", "=application/json"}}, ""},
		"JSON number":           {ask{body: `{"action":1}`, header: []string{"Content-Type", "=application/json"}}, ""},
		"JSON batch":            {ask{body: `[{"action":"read"}]`, header: []string{"Content-Type", "=application/json"}}, ""},
		"too long":              {ask{body: "action=read&x=" + strings.Repeat("a", MaxBody)}, ""},
	})
}

func TestMUST_H15_WhatCanBeReadInTwoWaysHasNoResult_JSONRPC(t *testing.T) {
	call := func(params string) string {
		return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":` + params + `}`
	}
	table(t, extractor(t, JSONRPC, ""), "application/json", cases{
		"method":              {ask{body: `{"jsonrpc":"2.0","method":"tools/list","id":"x"}`}, "tools/list"},
		"notification":        {ask{body: ` {"jsonrpc":"2.0","method":"notifications/initialized"}` + "\n"}, "notifications/initialized"},
		"tool":                {ask{body: call(`{"name":"search","arguments":{"name":"delete"}}`)}, "tools/call:search"},
		"escaped":             {ask{body: call(`{"\u006eame":"sea\u0072ch"}`)}, "tools/call:search"},
		"headers agree":       {ask{body: call(`{"name":"search"}`), header: []string{"Mcp-Method", "tools/call", "Mcp-Name", "search"}}, "tools/call:search"},
		"header contradicts":  {ask{body: call(`{"name":"search"}`), header: []string{"Mcp-Name", "delete"}}, ""},
		"method contradicts":  {ask{body: call(`{"name":"search"}`), header: []string{"Mcp-Method", "tools/list"}}, ""},
		"header twice":        {ask{body: call(`{"name":"search"}`), header: []string{"Mcp-Name", "search", "Mcp-Name", "search"}}, ""},
		"batch":               {ask{body: `[{"jsonrpc":"2.0","method":"tools/list"}]`}, ""},
		"answer":              {ask{body: `{"jsonrpc":"2.0","id":1,"result":{}}`}, ""},
		"no version":          {ask{body: `{"method":"tools/list"}`}, ""},
		"old version":         {ask{body: `{"jsonrpc":"1.0","method":"tools/list"}`}, ""},
		"no name":             {ask{body: call(`{}`)}, ""},
		"list of parameters":  {ask{body: call(`["search"]`)}, ""},
		"name twice":          {ask{body: call(`{"name":"search","name":"delete"}`)}, ""},
		"name in other case":  {ask{body: call(`{"name":"search","NAME":"delete"}`)}, ""},
		"method twice":        {ask{body: `{"jsonrpc":"2.0","method":"tools/list","method":"x"}`}, ""},
		"method, other case":  {ask{body: `{"jsonrpc":"2.0","method":"tools/list","Method":"x"}`}, ""},
		"method, Kelvin sign": {ask{body: `{"jsonrpc":"2.0","method":"tools/list","\u212a":"x"}`}, ""},
		"unknown member":      {ask{body: `{"jsonrpc":"2.0","method":"tools/list","extra":1}`}, ""},
		"tool in the method":  {ask{body: `{"jsonrpc":"2.0","method":"tools/call:search"}`}, ""},
		"trailing":            {ask{body: `{"jsonrpc":"2.0","method":"tools/list"}{"jsonrpc":"2.0","method":"x"}`}, ""},
		"trailing comma":      {ask{body: `{"jsonrpc":"2.0","method":"tools/list",}`}, ""},
		"comment":             {ask{body: `{"jsonrpc":"2.0",/**/"method":"tools/list"}`}, ""},
		"byte order mark":     {ask{body: "\ufeff" + `{"jsonrpc":"2.0","method":"tools/list"}`}, ""},
		"surrogate alone":     {ask{body: `{"jsonrpc":"2.0","method":"tools/list","id":"\ud800"}`}, ""},
		"not UTF-8":           {ask{body: "{\"jsonrpc\":\"2.0\",\"method\":\"tools/list\",\"id\":\"\xff\"}"}, ""},
		"query":               {ask{body: `{"jsonrpc":"2.0","method":"tools/list"}`, query: "Method=x"}, ""},
		"GET":                 {ask{method: "GET", query: "method=tools/list"}, ""},
		"PUT":                 {ask{method: "PUT", body: `{"jsonrpc":"2.0","method":"tools/list"}`}, ""},
		"text":                {ask{body: `{"jsonrpc":"2.0","method":"tools/list"}`, header: []string{"Content-Type", "=text/json"}}, ""},
		"deep":                {ask{body: `{"jsonrpc":"2.0","method":"tools/list","params":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`}, ""},
	})
}

func TestMUST_H15_WhatCanBeReadInTwoWaysHasNoResult_AWS(t *testing.T) {
	const sts, ddb, cw = "sts.eu-west-1.amazonaws.com", "dynamodb.us-east-1.amazonaws.com", "monitoring.us-east-1.amazonaws.com"
	json := []string{"X-Amz-Target", "DynamoDB_20120810.GetItem", "Content-Type", "=application/x-amz-json-1.0"}
	with := func(h ...string) []string { return append(append([]string{}, json...), h...) }
	table(t, extractor(t, AWS, ""), typeForm, cases{
		"query":               {ask{host: sts, body: "Action=GetCallerIdentity&Version=2011-06-15"}, "sts:GetCallerIdentity"},
		"query in GET":        {ask{host: sts, method: "GET", query: "Version=1&Action=GetCallerIdentity"}, "sts:GetCallerIdentity"},
		"action in the URL":   {ask{host: sts, query: "Action=GetCallerIdentity"}, "sts:GetCallerIdentity"},
		"queue":               {ask{host: "sqs.us-east-1.amazonaws.com", path: "/1/q", body: "Action=SendMessage"}, "sqs:SendMessage"},
		"other prefix":        {ask{host: cw, body: "Action=PutMetricData"}, "cloudwatch:PutMetricData"},
		"both places":         {ask{host: sts, query: "Action=GetCallerIdentity", body: "Action=AssumeRole"}, ""},
		"both places alike":   {ask{host: sts, query: "Action=AssumeRole", body: "Action=AssumeRole"}, ""},
		"twice":               {ask{host: sts, body: "Action=GetCallerIdentity&Action=AssumeRole"}, ""},
		"case":                {ask{host: sts, body: "Action=GetCallerIdentity&action=AssumeRole"}, ""},
		"escaped":             {ask{host: sts, body: "Action=GetCallerIdentity&%41ction=AssumeRole"}, ""},
		"semicolon":           {ask{host: sts, body: "x=1;Action=AssumeRole&Action=GetCallerIdentity"}, ""},
		"path":                {ask{host: sts, path: "/x", body: "Action=GetCallerIdentity"}, ""},
		"PUT":                 {ask{host: sts, method: "PUT", body: "Action=GetCallerIdentity"}, ""},
		"GET with a body":     {ask{host: sts, method: "GET", query: "Action=GetCallerIdentity", body: "Action=AssumeRole"}, ""},
		"JSON at STS":         {ask{host: sts, body: "{}", header: json}, ""},
		"odd name":            {ask{host: sts, body: "Action=Get-Caller"}, ""},
		"another host":        {ask{host: "sts.example.com", body: "Action=GetCallerIdentity"}, ""},
		"a REST service":      {ask{host: "lambda.us-east-1.amazonaws.com", path: "/2015-03-31/functions/x/invocations", query: "Action=ListFunctions"}, ""},
		"target":              {ask{host: ddb, body: "{}", header: json}, "dynamodb:GetItem"},
		"target twice":        {ask{host: ddb, body: "{}", header: with("X-Amz-Target", "DynamoDB_20120810.DeleteTable")}, ""},
		"target, underscore":  {ask{host: ddb, body: "{}", header: with("x_amz_target", "DynamoDB_20120810.DeleteTable")}, ""},
		"another API":         {ask{host: ddb, body: "{}", header: with("X-Amz-Target", "=AmazonSSM.GetParameter")}, ""},
		"target and action":   {ask{host: cw, query: "Action=DeleteAlarms", body: "{}", header: []string{"X-Amz-Target", "GraniteServiceVersion20100801.PutMetricData", "Content-Type", "=application/x-amz-json-1.0"}}, ""},
		"target in a form":    {ask{host: ddb, body: "{}", header: with("Content-Type", "="+typeForm)}, ""},
		"target without type": {ask{host: ddb, body: "{}", header: with("Content-Type", "")}, ""},
		"target, GET":         {ask{host: ddb, method: "GET", header: json}, ""},
		"target, path":        {ask{host: ddb, path: "/x", body: "{}", header: json}, ""},
		"rpc": {ask{host: cw, path: "/service/GraniteServiceVersion20100801/operation/PutMetricData", body: "x",
			header: []string{"Smithy-Protocol", "rpc-v2-cbor", "Content-Type", "=application/cbor"}}, "cloudwatch:PutMetricData"},
		"rpc and target": {ask{host: cw, path: "/service/GraniteServiceVersion20100801/operation/PutMetricData", body: "x",
			header: []string{"Smithy-Protocol", "rpc-v2-cbor", "Content-Type", "=application/cbor", "X-Amz-Target", "GraniteServiceVersion20100801.DeleteAlarms"}}, ""},
		"rpc at another path": {ask{host: cw, body: "x", header: []string{"Smithy-Protocol", "rpc-v2-cbor", "Content-Type", "=application/cbor"}}, ""},
	})
}

func TestMUST_H15_S3(t *testing.T) {
	const path, virtual = "s3.eu-west-1.amazonaws.com", "my.bucket.s3.us-east-1.amazonaws.com"
	table(t, extractor(t, AWS, ""), "", cases{
		"list buckets":      {ask{method: "GET", host: path, query: "x-id=ListBuckets"}, "s3:ListAllMyBuckets"},
		"get":               {ask{method: "GET", host: path, path: "/b/k/l", query: "x-id=GetObject"}, "s3:GetObject"},
		"get, virtual":      {ask{method: "GET", host: virtual, path: "/k"}, "s3:GetObject"},
		"list":              {ask{method: "GET", host: path, path: "/b", query: "list-type=2&prefix=a%2Fb&delimiter=%2F"}, "s3:ListBucket"},
		"list, virtual":     {ask{method: "GET", host: virtual}, "s3:ListBucket"},
		"list with a slash": {ask{method: "GET", host: path, path: "/b/"}, "s3:ListBucket"},
		"head":              {ask{method: "HEAD", host: virtual, path: "/k"}, "s3:GetObject"},
		"put":               {ask{method: "PUT", host: virtual, path: "/k"}, "s3:PutObject"},
		"put in chunks":     {ask{method: "PUT", host: virtual, path: "/k", header: []string{"Content-Encoding", "aws-chunked", "X-Amz-Decoded-Content-Length", "1"}}, "s3:PutObject"},
		"version":           {ask{method: "GET", host: virtual, path: "/k", query: "versionId=x"}, "s3:GetObjectVersion"},
		"delete a version":  {ask{method: "DELETE", host: virtual, path: "/k", query: "versionId=x"}, "s3:DeleteObjectVersion"},
		"copy":              {ask{method: "PUT", host: virtual, path: "/k", header: []string{"X-Amz-Copy-Source", "/other/secret"}}, "s3:GetObject s3:PutObject"},
		"copy of a version": {ask{method: "PUT", host: virtual, path: "/k", header: []string{"X-Amz-Copy-Source", "/o/s?versionId=1"}}, "s3:GetObjectVersion s3:PutObject"},
		"public":            {ask{method: "PUT", host: virtual, path: "/k", header: []string{"x_amz_acl", "public-read"}}, "s3:PutObject s3:PutObjectAcl"},
		"grant":             {ask{method: "PUT", host: virtual, path: "/", header: []string{"X-Amz-Grant-Read", "x"}}, "s3:CreateBucket s3:PutBucketAcl"},
		"start":             {ask{method: "POST", host: path, path: "/b/k", query: "uploads"}, "s3:PutObject"},
		"part":              {ask{method: "PUT", host: path, path: "/b/k", query: "partNumber=1&uploadId=x"}, "s3:PutObject"},
		"end":               {ask{method: "POST", host: path, path: "/b/k", query: "uploadId=x"}, "s3:PutObject"},
		"abort":             {ask{method: "DELETE", host: path, path: "/b/k", query: "uploadId=x"}, "s3:AbortMultipartUpload"},
		"parts":             {ask{method: "GET", host: path, path: "/b/k", query: "uploadId=x&max-parts=2"}, "s3:ListMultipartUploadParts"},
		"delete many":       {ask{method: "POST", host: path, path: "/b", query: "delete="}, "s3:DeleteObject s3:DeleteObjectVersion"},
		"acl":               {ask{method: "PUT", host: path, path: "/b/k", query: "acl"}, "s3:PutObjectAcl"},
		"policy":            {ask{method: "PUT", host: path, path: "/b", query: "policy"}, "s3:PutBucketPolicy"},
		"two subresources":  {ask{method: "PUT", host: path, path: "/b/k", query: "tagging&acl"}, ""},
		"twice":             {ask{method: "GET", host: path, path: "/b", query: "acl&acl"}, ""},
		"prefix twice":      {ask{method: "GET", host: path, path: "/b", query: "prefix=a&prefix=b"}, ""},
		"unknown parameter": {ask{method: "GET", host: path, path: "/b/k", query: "torrent"}, ""},
		"another case":      {ask{method: "GET", host: path, path: "/b/k", query: "ACL"}, ""},
		"escaped bucket":    {ask{method: "GET", host: path, path: "/b%2Fk"}, ""},
		"action":            {ask{method: "POST", host: path, query: "Action=AssumeRole"}, ""},
		"form upload":       {ask{method: "POST", host: virtual}, ""},
		"semicolon":         {ask{method: "GET", host: path, path: "/b", query: "prefix=a;acl"}, ""},
	})
	table(t, extractor(t, S3, ""), "", cases{
		"host of one's own": {ask{method: "GET", host: "minio.example", path: "/b/k"}, "s3:GetObject"},
	})
}

func TestMUST_H15_WhatCanBeReadInTwoWaysHasNoResult_GraphQL(t *testing.T) {
	q := func(doc string) string { return `{"query":` + quote(doc) + `}` }
	table(t, extractor(t, GraphQL, ""), "application/json", cases{
		"short":               {ask{body: q(`{ viewer { login } }`)}, "query:viewer"},
		"alias":               {ask{body: q(`{ viewer: deleteAll }`)}, "query:deleteAll"},
		"several":             {ask{body: q(`mutation M { createIssue(input: {a: "}"}) { id } x: addStar }`)}, "mutation:addStar mutation:createIssue"},
		"same twice":          {ask{body: q(`{ a: viewer b: viewer }`)}, "query:viewer"},
		"selected":            {ask{body: `{"query":"query A { a } mutation B { b }","operationName":"B"}`}, "mutation:b"},
		"null name":           {ask{body: `{"query":"query A { a }","operationName":null,"variables":{"query":"x"}}`}, "query:a"},
		"fragment":            {ask{body: q(`query { ...F } fragment F on Query { a ... on Query { b ...G } } fragment G on Query { c }`)}, "query:a query:b query:c"},
		"cycle":               {ask{body: q(`{ ...F } fragment F on Query { a ...F }`)}, "query:a"},
		"inline":              {ask{body: q(`{ ... @include(if: $x) { a } ... on Query @x { b } }`)}, "query:a query:b"},
		"comment":             {ask{body: q("# mutation { no }\n{ viewer }")}, "query:viewer"},
		"strings":             {ask{body: q(`{ a(x: """ } mutation { b \""" """, y: "\"}", z: [1, -2.5e3, $v, E, {k: null}]) }`)}, "query:a"},
		"variables":           {ask{body: q(`query Q($a: [Int!]! = [1] @d, $b: S = {x: "y"}) @d(a: 1) { a(b: $b) }`)}, "query:a"},
		"subscription":        {ask{body: q(`subscription { s }`)}, "subscription:s"},
		"introspection":       {ask{body: q(`{ __schema { types { name } } }`)}, "query:__schema"},
		"application/graphql": {ask{body: `{ viewer }`, header: []string{"Content-Type", "=application/graphql"}}, "query:viewer"},
		"GET":                 {ask{method: "GET", query: "query=%7Bviewer%7D&variables=%7B%7D"}, "query:viewer"},
		"extensions":          {ask{body: `{"query":"{a}","extensions":{"tracing":1}}`}, "query:a"},

		"not selected":        {ask{body: q(`query A { a } mutation B { b }`)}, ""},
		"empty name":          {ask{body: `{"query":"query A { a } mutation B { b }","operationName":""}`}, ""},
		"unknown name":        {ask{body: `{"query":"query A { a }","operationName":"B"}`}, ""},
		"names twice":         {ask{body: `{"query":"query A { a } mutation A { b }","operationName":"A"}`}, ""},
		"anonymous and named": {ask{body: `{"query":"{ a } mutation A { b }","operationName":"A"}`}, ""},
		"fragments twice":     {ask{body: q(`{ ...F } fragment F on Q { a } fragment F on Q { b }`)}, ""},
		"unknown fragment":    {ask{body: q(`{ ...F }`)}, ""},
		"no operation":        {ask{body: q(`fragment F on Q { a }`)}, ""},
		"batch":               {ask{body: `[{"query":"{a}"}]`}, ""},
		"persisted":           {ask{body: `{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"x"}}}`}, ""},
		"persisted and query": {ask{body: `{"query":"{a}","extensions":{"persistedQuery":{}}}`}, ""},
		"document id":         {ask{body: `{"query":"{a}","documentId":"x"}`}, ""},
		"id in the URL":       {ask{query: "doc_id=1", body: q("{a}")}, ""},
		"query in the URL":    {ask{query: "query=mutation%7Bb%7D", body: q("{a}")}, ""},
		"name in the URL":     {ask{query: "operationName=B", body: `{"query":"query A {a} mutation B {b}","operationName":"A"}`}, ""},
		"query twice":         {ask{body: `{"query":"{a}","query":"mutation{b}"}`}, ""},
		"Query":               {ask{body: `{"query":"{a}","Query":"mutation{b}"}`}, ""},
		"GET twice":           {ask{method: "GET", query: "query={a}&query=mutation{b}"}, ""},
		"GET persisted":       {ask{method: "GET", query: "query={a}&extensions={}"}, ""},
		"multipart":           {ask{body: "x", header: []string{"Content-Type", "=multipart/form-data; boundary=x"}}, ""},
		"form":                {ask{body: "query={a}", header: []string{"Content-Type", "=" + typeForm}}, ""},
		"type definition":     {ask{body: q(`{ a } type X { y: Int }`)}, ""},
		"unclosed":            {ask{body: q(`{ a { b }`)}, ""},
		"unclosed string":     {ask{body: q(`{ a(x: "y }`)}, ""},
		"number and name":     {ask{body: q(`{ a(x: 1b) }`)}, ""},
		"control byte":        {ask{body: q("{ a \x01 }")}, ""},
		"empty set":           {ask{body: q(`{ }`)}, ""},
		"empty":               {ask{body: q(``)}, ""},
		"deep":                {ask{body: q(strings.Repeat("{a", 200) + strings.Repeat("}", 200))}, ""},
		"many":                {ask{body: q("{ a" + strings.Repeat(" f", 2) + manyFields(100) + "}")}, ""},
	})
}

func manyFields(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(" f" + strings.Repeat("x", i))
	}
	return b.String()
}

func quote(s string) string {
	r := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\x01", `\u0001`)
	return `"` + r.Replace(s) + `"`
}

func TestAWSEndpoint(t *testing.T) {
	for host, want := range map[string]string{
		"sts.amazonaws.com":                         "sts",
		"sts.us-gov-west-1.amazonaws.com":           "sts",
		"sts-fips.us-east-1.amazonaws.com":          "sts",
		"sts.cn-north-1.amazonaws.com.cn":           "sts",
		"vpce-1-x.sts.us-east-1.vpce.amazonaws.com": "vpce-1-x.sts",
		"api.ecr.us-east-1.amazonaws.com":           "api.ecr",
		"ecr.us-east-1.api.aws":                     "ecr",
		"s3.dualstack.us-east-1.amazonaws.com":      "s3",
		"s3-us-west-2.amazonaws.com":                "s3",
		"sts.us-east-1.s3.amazonaws.com":            "sts.us-east-1.s3",
		"amazonaws.com":                             "",
		"sts.amazonaws.com.example":                 "",
		"xamazonaws.com":                            "",
	} {
		if got := AWSEndpoint(host); got != want || AWSHost(host) != (want != "") {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
}

func TestServiceAt(t *testing.T) {
	got := map[string]string{}
	for _, host := range []string{"sts.amazonaws.com", "vpce-1-x.sts.us-east-1.vpce.amazonaws.com", "streams.dynamodb.us-east-1.amazonaws.com", "lambda.us-east-1.amazonaws.com", "b.s3.amazonaws.com"} {
		s, place := serviceAt(host)
		got[host] = s.prefix
		if place.bucketInHost != strings.HasPrefix(host, "b.") {
			t.Errorf("%s: %+v", host, place)
		}
	}
	want := map[string]string{"sts.amazonaws.com": "sts", "vpce-1-x.sts.us-east-1.vpce.amazonaws.com": "sts",
		"streams.dynamodb.us-east-1.amazonaws.com": "dynamodb", "lambda.us-east-1.amazonaws.com": "", "b.s3.amazonaws.com": "s3"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestTheListOfServicesIsSound(t *testing.T) {
	n := 0
	for line := range strings.Lines(awsServices) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Fields(line)
		if len(f) != 4 || strings.Contains(f[2], "json") && f[3] == "-" || serviceNamed(f[0]).prefix != f[1] {
			t.Errorf("line %q", line)
		}
		n++
	}
	if n < 150 {
		t.Errorf("%d services", n)
	}
}

func TestNeedsBody(t *testing.T) {
	for kind, want := range map[string]bool{AWS: false, S3: false, GraphQL: true, JSONRPC: true, Form: true} {
		field := ""
		if kind == Form {
			field = "a"
		}
		if got := extractor(t, kind, field).NeedsBody(&Request{Host: "b.s3.amazonaws.com"}); got != want {
			t.Errorf("%s: %t", kind, got)
		}
	}
	if !extractor(t, AWS, "").NeedsBody(&Request{Host: "sts.amazonaws.com"}) {
		t.Error("STS is read without its body")
	}
}
