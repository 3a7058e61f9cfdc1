// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http/httpguts"

	"github.com/egret-proxy/egret/internal/secret"
)

func tokenOf(s string) Token {
	return Token{Values: map[string]secret.Secret{"token": secret.New(s), "username": secret.New("svc")}}
}

// apply runs one injection on a request to https://api.example/x.
func apply(t testing.TB, c InjectionConfig, token, rawQuery string, h http.Header) (*http.Request, error) {
	t.Helper()
	in, err := NewInjection(c)
	if err != nil {
		t.Fatal(err)
	}
	r := &http.Request{Header: h, URL: &url.URL{Scheme: "https", Host: "api.example:443", Path: "/x", RawQuery: rawQuery}}
	l, err := New(tokenOf(token), []Injection{in}, time.Time{})
	if err != nil {
		return r, err
	}
	return r, l.Apply(r)
}

func TestApply(t *testing.T) {
	for name, tc := range map[string]struct {
		config InjectionConfig
		query  string
		header http.Header // what is there after
		wantQ  string
	}{
		"bearer":        {config: InjectionConfig{Header: "authorization", Value: "Bearer {token}"}, header: http.Header{"Authorization": {"Bearer tök"}}},
		"pagerduty":     {config: InjectionConfig{Header: "Authorization", Value: "Token token={token}"}, header: http.Header{"Authorization": {"Token token=tök"}}},
		"basic":         {config: InjectionConfig{Basic: "x-access-token"}, header: http.Header{"Authorization": {"Basic eC1hY2Nlc3MtdG9rZW46dMO2aw=="}}},
		"basic by name": {config: InjectionConfig{Basic: "{username}"}, header: http.Header{"Authorization": {"Basic c3ZjOnTDtms="}}},
		"constant":      {config: InjectionConfig{Header: "anthropic-version", Value: "2023-06-01"}, header: http.Header{"Anthropic-Version": {"2023-06-01"}}},
		"query":         {config: InjectionConfig{Query: "key"}, query: "a=1", wantQ: "a=1&key=t%C3%B6k", header: http.Header{}},
		"query value":   {config: InjectionConfig{Query: "key", Value: "a b+{token}&"}, wantQ: "key=a%20b%2Bt%C3%B6k%26", header: http.Header{}},
	} {
		r, err := apply(t, tc.config, "tök", tc.query, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d := cmp.Diff(tc.header, r.Header); d != "" || r.URL.RawQuery != tc.wantQ {
			t.Errorf("%s: query %q, header: %s", name, r.URL.RawQuery, d)
		}
	}
}

func TestMUST_H2_ApplyDeletesEverySpellingThenSetsOne(t *testing.T) {
	h := http.Header{
		"X-Api-Key": {"app1", "app2"}, "x-api-key": {"raw"}, "X_Api_Key": {"cgi"}, "X-Api_Key": {"mixed"}, "x_API-kEY": {"odd"},
		"X-Api-Keys": {"other"}, "Xapikey": {"other"}, "Authorization": {"Bearer app"}, "AUTHORIZATION": {"x"}, "Cookie": {"c"},
	}
	r, err := apply(t, InjectionConfig{Header: "x-api-key", Value: "{token}", Remove: []string{"authorization"}}, "ours", "", h)
	if err != nil {
		t.Fatal(err)
	}
	want := http.Header{"X-Api-Key": {"ours"}, "X-Api-Keys": {"other"}, "Xapikey": {"other"}, "Cookie": {"c"}}
	if d := cmp.Diff(want, r.Header); d != "" {
		t.Error(d)
	}
}

// An entry that removes what another sets must not undo it, in any order.
func TestMUST_H2_RemovalsComeBeforeSettings(t *testing.T) {
	a, err := NewInjection(InjectionConfig{Header: "Authorization", Value: "Bearer {token}"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewInjection(InjectionConfig{Header: "X-B", Value: "b", Remove: []string{"Authorization", "X-Api-Key"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, order := range [][]Injection{{a, b}, {b, a}} {
		l, err := New(tokenOf("ours"), order, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		r := &http.Request{Header: http.Header{"X_Api_Key": {"app"}}, URL: &url.URL{Scheme: "https", Host: "x.example"}}
		if err := l.Apply(r); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(http.Header{"Authorization": {"Bearer ours"}, "X-B": {"b"}}, r.Header); d != "" {
			t.Error(d)
		}
	}
}

func TestMUST_H2_HeadersNamesAllThatAreTouched(t *testing.T) {
	in, err := NewInjection(InjectionConfig{Basic: "u", Remove: []string{"x-api-key", "DD-API-KEY"}})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"X-Api-Key", "Dd-Api-Key", "Authorization"}, in.Headers()); d != "" {
		t.Error(d)
	}
}

func TestApplyFailsClosedAndTouchesNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		config InjectionConfig
		url    string
	}{
		"other host":       {InjectionConfig{Header: "X-A", Value: "{token}", Hosts: []string{"b.example"}}, "https://a.example/"},
		"two labels":       {InjectionConfig{Header: "X-A", Value: "{token}", Hosts: []string{"*.example"}}, "https://a.b.example/"},
		"no label":         {InjectionConfig{Header: "X-A", Value: "{token}", Hosts: []string{"*.a.example"}}, "https://a.example/"},
		"empty label":      {InjectionConfig{Header: "X-A", Value: "{token}", Hosts: []string{"*.a.example"}}, "https://.a.example/"},
		"suffix only":      {InjectionConfig{Header: "X-A", Value: "{token}", Hosts: []string{"a.example"}}, "https://evila.example/"},
		"user info":        {InjectionConfig{Header: "X-A", Value: "{token}", Hosts: []string{"a.example"}}, "https://a.example@evil.example/"},
		"plain text":       {InjectionConfig{Header: "X-A", Value: "{token}"}, "http://a.example/"},
		"removes only":     {InjectionConfig{Remove: []string{"X-A"}}, "https://a.example/"},
		"query, semicolon": {InjectionConfig{Query: "key"}, "https://a.example/?a=1;key=2"},
	} {
		in, err := NewInjection(tc.config)
		if err != nil {
			t.Fatal(err)
		}
		l, err := New(tokenOf("ours"), []Injection{in}, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		r, _ := http.NewRequest(http.MethodGet, tc.url, nil)
		r.Header.Set("X-A", "app")
		if err := l.Apply(r); err == nil || r.Header.Get("X-A") != "app" || r.URL.String() != tc.url {
			t.Errorf("%s: err %v, header %v, url %s", name, err, r.Header, r.URL)
		}
	}
}

func TestHostsMatch(t *testing.T) {
	in, err := NewInjection(InjectionConfig{Header: "X-A", Value: "{token}", Hosts: []string{"a.example", "*.b.example", "192.0.2.1", "2001:db8::1"}})
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{
		"a.example": true, "x.b.example": true, "192.0.2.1": true, "2001:db8::1": true,
		"b.example": false, "x.a.example": false, "y.x.b.example": false, "": false, "A.example": false, "a.example.": false,
	} {
		if got := in.matches(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}

func TestNewInjectionRefuses(t *testing.T) {
	for want, c := range map[string]InjectionConfig{
		"one of header, basic, query and a signature must be set": {},
		"only one of":                             {Header: "X-A", Query: "a", Value: "{token}"},
		`header "X A" must be a header name`:      {Header: "X A", Value: "{token}"},
		`header "Host" must not be`:               {Header: "Host", Value: "{token}"},
		`header "content_length" must not be`:     {Header: "content_length", Value: "{token}"},
		`header "Proxy_Authorization" must not`:   {Header: "Proxy_Authorization", Value: "{token}"},
		`remove "Transfer-Encoding" must not`:     {Remove: []string{"Transfer-Encoding"}},
		`remove "" must be`:                       {Remove: []string{""}},
		`value of header "X-A" must be set`:       {Header: "X-A"},
		`value "{token" has an unfinished`:        {Header: "X-A", Value: "{token"},
		`value "{}" has an unfinished`:            {Header: "X-A", Value: "{}"},
		`value "{Token}" has an unfinished`:       {Header: "X-A", Value: "{Token}"},
		`value "token}" has } without {`:          {Header: "X-A", Value: "token}"},
		"control byte 0x0a":                       {Header: "X-A", Value: "a\n{token}"},
		"white space":                             {Header: "X-A", Value: " {token}"},
		`basic "a:b" must not hold a colon`:       {Basic: "a:b"},
		"value would be ignored beside basic":     {Basic: "a", Value: "{token}"},
		"value would be ignored without":          {Remove: []string{"X-A"}, Value: "{token}"},
		`query "a b" must have only letters`:      {Query: "a b"},
		`host "A.example" must be a canonical`:    {Header: "X-A", Value: "x", Hosts: []string{"A.example"}},
		`host "*" must be a canonical`:            {Header: "X-A", Value: "x", Hosts: []string{"*"}},
		`host "*.*.example" must be a canonical`:  {Header: "X-A", Value: "x", Hosts: []string{"*.*.example"}},
		`host "a.*.example" must be a canonical`:  {Header: "X-A", Value: "x", Hosts: []string{"a.*.example"}},
		`host "a.example." must be a canonical`:   {Header: "X-A", Value: "x", Hosts: []string{"a.example."}},
		`host "*.2001:db8::1" must be a canonica`: {Header: "X-A", Value: "x", Hosts: []string{"*.2001:db8::1"}},
	} {
		if _, err := NewInjection(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v; want %q", c, err, want)
		}
	}
}

func TestMUST_C10_TokensAreOpaque(t *testing.T) {
	for _, tok := range []string{"x", "ghs_" + strings.Repeat("A1_", 5000), "a=b:c/d+e{f}", "\x80\xff", "with blank"} {
		r, err := apply(t, InjectionConfig{Header: "Authorization", Value: "Bearer {token}"}, tok, "", nil)
		if err != nil || r.Header.Get("Authorization") != "Bearer "+tok {
			t.Errorf("%.20q: %v", tok, err)
		}
	}
}

func TestMUST_C10_BadBytesNeverReachAHeader(t *testing.T) {
	for _, tok := range []string{"", "a\r\nX: y", "a\nb", "a\x00b", "a\x7fb", "a\x1bb", "tail ", "tail\n"} {
		for _, c := range []InjectionConfig{{Header: "Authorization", Value: "Bearer {token}"}, {Basic: "u"}, {Query: "key"}} {
			r, err := apply(t, c, tok, "a=1", nil)
			if err == nil || len(r.Header) != 0 || r.URL.RawQuery != "a=1" {
				t.Errorf("%q: err %v, header %v, query %q", tok, err, r.Header, r.URL.RawQuery)
			} else if len(tok) > 1 && strings.Contains(err.Error(), tok) {
				t.Errorf("%q is quoted: %v", tok, err)
			}
		}
	}
}

func TestMissingValueIsNamed(t *testing.T) {
	_, err := apply(t, InjectionConfig{Header: "X-A", Value: "{account}"}, "x", "", nil)
	if err == nil || !strings.Contains(err.Error(), "{account}") {
		t.Errorf("err = %v", err)
	}
}

func TestUserNameWithColonIsRefused(t *testing.T) {
	in, _ := NewInjection(InjectionConfig{Basic: "{username}"})
	tok := Token{Values: map[string]secret.Secret{"token": secret.New("t"), "username": secret.New("a:b")}}
	if _, err := New(tok, []Injection{in}, time.Time{}); err == nil {
		t.Error("user name with a colon was taken")
	}
}

func TestMUST_H4_QueryEverySpellingIsRemovedTheRestIsVerbatim(t *testing.T) {
	for raw, want := range map[string]string{
		"":                                   "api_key=N",
		"a=1&b=%zz&&c":                       "a=1&b=%zz&&c&api_key=N",
		"api_key=app":                        "api_key=N",
		"a=1&api_key=app&b=2&api_key=x":      "a=1&b=2&api_key=N",
		"api%5Fkey=1&%61pi_key=2&API_KEY=3":  "api_key=N",
		"api-key=1&api.key=2&api_key[]=3":    "api_key=N",
		"api_key[0][x]=1&+api_key=2&api_key": "api_key=N",
		"%20api_key%20=1&api+key=2":          "api_key=N",
		"api_key%00x=1&api_key%5B%5D=2":      "api_key=N",
		"my_api_key=1&api_keys=2&apikey=3":   "my_api_key=1&api_keys=2&apikey=3&api_key=N",
		"q=%2B+%E2%82%AC&x=a=b=c&y=a;b":      "q=%2B+%E2%82%AC&x=a=b=c&y=a;b&api_key=N",
		"x=api_key=1":                        "x=api_key=1&api_key=N",
		"a=1&":                               "a=1&&api_key=N",
	} {
		if got, err := replaceParam(raw, "api_key", "N"); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", raw, got, err, want)
		}
	}
	for _, raw := range []string{"a=1;api_key=2", "a;API%5fKEY", ";api_key=1"} {
		if _, err := replaceParam(raw, "api_key", "N"); !errors.Is(err, ErrAmbiguousQuery) {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

func FuzzReplaceParam(f *testing.F) {
	for _, s := range []string{"", "a=1&token=2", "%74oken=1", "a;token=1", "&&token", "tok%65n[]=&b=%", "%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := replaceParam(raw, "token", "N")
		if err != nil {
			if !strings.Contains(raw, ";") {
				t.Fatalf("%q refused without a semicolon", raw)
			}
			return
		}
		body, ok := strings.CutSuffix(got, "token=N")
		if !ok {
			t.Fatalf("%q does not end with ours", got)
		}
		// Go's own parser must see exactly one, ours.
		if v, err := url.ParseQuery(got); err == nil && len(v["token"]) != 1 {
			t.Fatalf("%q: %q", got, v["token"])
		}
		// What is left are pairs of the original, in order and byte for byte.
		rest := strings.Split(raw, "&")
		for _, p := range strings.Split(strings.TrimSuffix(body, "&"), "&") {
			for len(rest) > 0 && rest[0] != p {
				rest = rest[1:]
			}
			if len(rest) == 0 && body != "" {
				t.Fatalf("%q became %q: %q is not of it", raw, got, p)
			}
			if len(rest) > 0 {
				rest = rest[1:]
			}
		}
	})
}

func FuzzTemplate(f *testing.F) {
	f.Add("Bearer {token}", "abc")
	f.Add("{token}{token}", "a\r\nb")
	f.Add("}{", "x")
	f.Add("Token token={a_1}", "")
	f.Fuzz(func(t *testing.T, tmpl, tok string) {
		in, err := NewInjection(InjectionConfig{Header: "X-A", Value: tmpl})
		if err != nil {
			return
		}
		r, err := in.render(map[string]secret.Secret{"token": secret.New(tok)})
		if err != nil {
			return
		}
		v := r.wire.Reveal()
		if !httpguts.ValidHeaderFieldValue(v) {
			t.Fatalf("%q with %q gives %q", tmpl, tok, v)
		}
		if want := strings.ReplaceAll(tmpl, "{token}", tok); v != want {
			t.Fatalf("%q with %q gives %q, want %q", tmpl, tok, v, want)
		}
		var b bytes.Buffer
		if err := (http.Header{"X-A": {v}}).Write(&b); err != nil || b.String() != "X-A: "+v+"\r\n" {
			t.Fatalf("written as %q", b.String())
		}
	})
}

func TestCertificateAloneNeedsNoToken(t *testing.T) {
	cert := &tls.Certificate{}
	l, err := New(Token{Certificate: cert, Fingerprint: "fp"}, nil, time.Time{})
	if err != nil || l.ClientCertificate() != cert || l.Fingerprint() != "fp" {
		t.Errorf("%v, %v", l, err)
	}
}
