// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"strings"
	"testing"
)

func TestTheFixtureHasNoFault(t *testing.T) { newFixture().compile(t) }

// oneFault is a change to the fixture and the only fault that it makes.
type oneFault struct {
	change func(*fixture)
	object int
	path   string
	rule   string // part of the text
}

func runFaults(t *testing.T, cases map[string]oneFault) {
	t.Helper()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := newFixture()
			c.change(f)
			got, faults := Compile(f.objects(), f.opt)
			if got != nil || len(faults) != 1 {
				t.Fatalf("want one fault and no result, got %v, %+v", got != nil, faults)
			}
			x := faults[0]
			if x.Object != c.object || x.Path != c.path || !strings.Contains(x.Rule, c.rule) {
				t.Errorf("got  object %d %s: %q %s\nwant object %d %s: %s", x.Object, x.Path, x.Value, x.Rule, c.object, c.path, c.rule)
			}
			if strings.HasSuffix(x.Rule, ".") || x.Rule == "" || x.Rule[0] >= 'A' && x.Rule[0] <= 'Z' && !strings.HasPrefix(x.Rule, "SPIFFE") {
				t.Errorf("rule %q is not in the style of the others", x.Rule)
			}
		})
	}
}

func TestWorkloadFaults(t *testing.T) {
	runFaults(t, map[string]oneFault{
		"version":       {func(f *fixture) { f.job.APIVersion = "egret.dev/v1" }, iJob, "apiVersion", "must be egret.dev/v1alpha1"},
		"kind":          {func(f *fixture) { f.job.Kind = "Destination" }, iJob, "kind", "must be Workload"},
		"ID":            {func(f *fixture) { f.job.Spec.SpiffeID = "acme.example/x" }, iJob, "spec.spiffeID", "scheme"},
		"ID rest":       {func(f *fixture) { f.job.Spec.SpiffeID = "spiffe://acme.example/x/**" }, iJob, "spec.spiffeID", "must not end with /**"},
		"ID part star":  {func(f *fixture) { f.job.Spec.SpiffeID = "spiffe://acme.example/x*" }, iJob, "spec.spiffeID", "whole segment"},
		"owner":         {func(f *fixture) { f.job.Spec.Owner = " " }, iJob, "spec.owner", "is required"},
		"owner lines":   {func(f *fixture) { f.job.Spec.Owner = "a\nb" }, iJob, "spec.owner", "one line"},
		"owner escapes": {func(f *fixture) { f.job.Spec.Owner = "a\x1b[2J" }, iJob, "spec.owner", "one line"},
		"purpose":       {func(f *fixture) { f.job.Spec.Purpose = "" }, iJob, "spec.purpose", "is required"},
		"purpose long":  {func(f *fixture) { f.job.Spec.Purpose = strings.Repeat("x", 1025) }, iJob, "spec.purpose", "at most 1024"},
		"evidence":      {func(f *fixture) { f.job.Spec.Evidence = []string{"password"} }, iJob, "spec.evidence[0]", "must be one of sidecar"},
		"evidence none": {func(f *fixture) { f.job.Spec.Evidence = []string{} }, iJob, "spec.evidence", "must not be empty"},
		"evidence two":  {func(f *fixture) { f.job.Spec.Evidence = []string{"pod", "pod"} }, iJob, "spec.evidence[1]", "only once"},
		"cron":          {sched("0 5 * *", "", "2h"), iJob, "spec.schedule.cron", "five fields"},
		"cron every":    {sched("@every 1h", "", "2h"), iJob, "spec.schedule.cron", "five fields"},
		"cron zone":     {sched("TZ=UTC 0 5 * * *", "", "2h"), iJob, "spec.schedule.cron", "five fields"},
		"cron never":    {sched("0 0 31 2 *", "", "2h"), iJob, "spec.schedule.cron", "never does"},
		"zone":          {sched("0 5 * * *", "Mars/Olympus", "2h"), iJob, "spec.schedule.timezone", "IANA"},
		"zone local":    {sched("0 5 * * *", "Local", "2h"), iJob, "spec.schedule.timezone", "IANA"},
		"window":        {sched("0 5 * * *", "", "25h"), iJob, "spec.schedule.window", "from 1m to 24h"},
		"window none":   {sched("0 5 * * *", "", ""), iJob, "spec.schedule.window", "is required"},
		"window words":  {sched("0 5 * * *", "", "two hours"), iJob, "spec.schedule.window", "must be a duration"},
	})
}

func sched(cron, zone, window string) func(*fixture) {
	return func(f *fixture) { f.job.Spec.Schedule = &Schedule{Cron: cron, Timezone: zone, Window: window} }
}

func TestDestinationFaults(t *testing.T) {
	hosts := func(h ...string) func(*fixture) { return func(f *fixture) { f.slack.Spec.Hosts = h } }
	runFaults(t, map[string]oneFault{
		"kind":            {func(f *fixture) { f.slack.Kind = "" }, iSlack, "kind", "must be Destination"},
		"hosts":           {hosts(), iSlack, "spec.hosts", "is required"},
		"host port":       {hosts("slack.com:443"), iSlack, "spec.hosts[0]", "colon"},
		"host URL":        {hosts("https://slack.com"), iSlack, "spec.hosts[0]", "colon"},
		"host inner star": {hosts("a.*.slack.com"), iSlack, "spec.hosts[0]", "ASCII letters"},
		"host TLD":        {hosts("*.net"), iSlack, "spec.hosts[0]", "anybody can register"},
		"host suffix":     {hosts("*.co.uk"), iSlack, "spec.hosts[0]", "anybody can register"},
		"host open":       {hosts("*.github.io"), iSlack, "spec.hosts[0]", "anybody can register"},
		"host unknown":    {hosts("*.corp"), iSlack, "spec.hosts[0]", "anybody can register"},
		"host IP":         {hosts("192.0.2.9"), iSlack, "spec.hosts[0]", "cannot be intercepted"},
		"host twice":      {hosts("slack.com", "SLACK.com."), iSlack, "spec.hosts[1]", "only once"},
		"port":            {func(f *fixture) { f.slack.Spec.Ports = []int{65536} }, iSlack, "spec.ports[0]", "1 to 65535"},
		"ports none":      {func(f *fixture) { f.slack.Spec.Ports = []int{} }, iSlack, "spec.ports", "must not be empty"},
		"port twice":      {func(f *fixture) { f.slack.Spec.Ports = []int{443, 443} }, iSlack, "spec.ports[1]", "only once"},
		"intercept":       {func(f *fixture) { f.slack.Spec.Intercept = "sometimes" }, iSlack, "spec.intercept", "must be one of"},
		"dial":            {func(f *fixture) { f.slack.Spec.Dial = "127.0.0.1" }, iSlack, "spec.dial", "no port"},
		"CIDR":            {func(f *fixture) { f.slack.Spec.AllowPrivate = []string{"10.20.0.0"} }, iSlack, "spec.allowPrivate[0]", "CIDR"},
		"CIDR bits":       {func(f *fixture) { f.slack.Spec.AllowPrivate = []string{"10.20.0.1/16"} }, iSlack, "spec.allowPrivate[0]", "no bits set"},
		"CIDR all":        {func(f *fixture) { f.slack.Spec.AllowPrivate = []string{"0.0.0.0/0"} }, iSlack, "spec.allowPrivate[0]", "not everything"},
		"roots":           {func(f *fixture) { f.slack.Spec.TLS = &DestinationTLS{} }, iSlack, "spec.tls.roots", "path of a file"},
		"roots missing":   {func(f *fixture) { f.slack.Spec.TLS = &DestinationTLS{"missing.pem"} }, iSlack, "spec.tls.roots", "cannot be read"},
		"roots unread": {func(f *fixture) { f.slack.Spec.TLS, f.opt.Roots = &DestinationTLS{"ca.pem"}, nil }, iSlack,
			"spec.tls.roots", "cannot be read here"},
		"refused":        {func(f *fixture) { f.slack.Spec.Refused = &Refused{} }, iSlack, "spec.refused", "must have json or errorCodes"},
		"refused empty":  {func(f *fixture) { f.slack.Spec.Refused = &Refused{JSON: map[string][]string{}} }, iSlack, "spec.refused.json", "at least one"},
		"refused none":   {func(f *fixture) { f.slack.Spec.Refused = &Refused{JSON: map[string][]string{"ok": nil}} }, iSlack, "spec.refused.json.ok", "must list"},
		"no error codes": {func(f *fixture) { f.slack.Spec.Refused = &Refused{ErrorCodes: []string{}} }, iSlack, "spec.refused.errorCodes", "at least one"},
		"error code":     {func(f *fixture) { f.slack.Spec.Refused = &Refused{ErrorCodes: []string{"A", ""}} }, iSlack, "spec.refused.errorCodes[1]", "must be 1 to 128"},
		"error codes":    {func(f *fixture) { f.slack.Spec.Refused = &Refused{ErrorCodes: []string{"A", "B", "A"}} }, iSlack, "spec.refused.errorCodes[2]", "only once"},
		"tunnel roots":   {func(f *fixture) { f.bank.Spec.TLS = &DestinationTLS{"ca.pem"} }, iBank, "spec.tls", "would be ignored"},
		"tunnel refused": {func(f *fixture) { f.bank.Spec.Refused = &Refused{JSON: map[string][]string{"ok": {"false"}}} }, iBank, "spec.refused", "would be ignored"},
	})
}

func TestCredentialFaults(t *testing.T) {
	oauth := func(change func(*OAuth2Provider)) func(*fixture) {
		return func(f *fixture) { change(f.bot.Spec.Provider.OAuth2) }
	}
	url := func(u string) func(*fixture) { return oauth(func(p *OAuth2Provider) { p.TokenURL = u }) }
	src := func(s SecretSource) func(*fixture) {
		return func(f *fixture) { f.static.Spec.Provider.Static.Value = s }
	}
	inject := func(in ...Inject) func(*fixture) { return func(f *fixture) { f.bot.Spec.Inject = in } }
	const o, in0 = "spec.provider.oauth2.", "spec.inject[0]."
	runFaults(t, map[string]oneFault{
		"owner":          {func(f *fixture) { f.bot.Spec.Owner = "" }, iBot, "spec.owner", "is required"},
		"usableBy none":  {func(f *fixture) { f.static.Spec.UsableBy = nil; f.clone.Spec.Credential = "none" }, iStatic, "spec.usableBy", "is required"},
		"usableBy ID":    {func(f *fixture) { f.bot.Spec.UsableBy = []string{"job", "spiffe://x"} }, iBot, "spec.usableBy[1]", "has no path"},
		"usableBy name":  {func(f *fixture) { f.bot.Spec.UsableBy = []string{"job", "A b"} }, iBot, "spec.usableBy[1]", "lower-case letters"},
		"provider none":  {func(f *fixture) { f.bot.Spec.Provider = Provider{} }, iBot, "spec.provider", "exactly one"},
		"provider two":   {func(f *fixture) { f.bot.Spec.Provider.Static = &StaticProvider{} }, iBot, "spec.provider", "exactly one"},
		"source none":    {src(SecretSource{}), iStatic, "spec.provider.static.value", "exactly one"},
		"source two":     {src(SecretSource{File: "a", Env: "B"}), iStatic, "spec.provider.static.value", "exactly one"},
		"source dir":     {src(SecretSource{File: "/run/"}), iStatic, "spec.provider.static.value.file", "path of a file"},
		"source systemd": {src(SecretSource{SystemdCredential: "../x"}), iStatic, "spec.provider.static.value.systemdCredential", "not a path"},
		"source dots":    {src(SecretSource{SystemdCredential: ".."}), iStatic, "spec.provider.static.value.systemdCredential", "not a path"},
		"source env":     {src(SecretSource{Env: "1X"}), iStatic, "spec.provider.static.value.env", "environment variable"},
		"username colon": {func(f *fixture) { f.static.Spec.Provider.Static.Username = "a:b" }, iStatic, "spec.provider.static.username", "colon"},
		"username idle":  {func(f *fixture) { f.static.Spec.Inject[0].Basic = "x" }, iStatic, "spec.provider.static.username", "would be ignored"},
		"grant":          {oauth(func(p *OAuth2Provider) { p.Grant = "password" }), iBot, o + "grant", "must be one of client_credentials, token_exchange"},
		"URL none":       {url(""), iBot, o + "tokenURL", "is required"},
		"URL http":       {url("http://idp.example/token"), iBot, o + "tokenURL", "https"},
		"URL user":       {url("https://u:p@idp.example/token"), iBot, o + "tokenURL", "user information"},
		"URL query":      {url("https://idp.example/token?x=1"), iBot, o + "tokenURL", "query"},
		"URL mark":       {url("https://idp.example/token?"), iBot, o + "tokenURL", "query"},
		"URL fragment":   {url("https://idp.example/token#"), iBot, o + "tokenURL", "fragment"},
		"URL no host":    {url("https:///token"), iBot, o + "tokenURL", "host"},
		"URL odd host":   {url("https://127.1/token"), iBot, o + "tokenURL", "ends in a number"},
		"URL port":       {url("https://idp.example:0/token"), iBot, o + "tokenURL", "port"},
		"URL empty port": {url("https://idp.example:/token"), iBot, o + "tokenURL", "port"},
		"URL junk":       {url("https://idp.example/%zz"), iBot, o + "tokenURL", "must be a URL"},
		"client":         {oauth(func(p *OAuth2Provider) { p.ClientID = "" }), iBot, o + "clientID", "is required"},
		"secret none":    {oauth(func(p *OAuth2Provider) { p.ClientSecret = nil }), iBot, o + "clientSecret", "is required"},
		"secret empty":   {oauth(func(p *OAuth2Provider) { p.ClientSecret = &SecretSource{} }), iBot, o + "clientSecret", "exactly one"},
		"auth":           {oauth(func(p *OAuth2Provider) { p.ClientAuth = "magic" }), iBot, o + "clientAuth", "must be one of"},
		"secret ignored": {oauth(func(p *OAuth2Provider) { p.ClientAuth = "jwt-spiffe" }), iBot, o + "clientSecret", "would be ignored"},
		"audience idle":  {oauth(func(p *OAuth2Provider) { p.AssertionAudience = "x" }), iBot, o + "assertionAudience", "would be ignored"},
		"scope":          {oauth(func(p *OAuth2Provider) { p.Scopes = []string{"a b"} }), iBot, o + "scopes[0]", "one scope"},
		"scope twice":    {oauth(func(p *OAuth2Provider) { p.Scopes = []string{"a", "a"} }), iBot, o + "scopes[1]", "only once"},
		"resource":       {oauth(func(p *OAuth2Provider) { p.Resource = "/x" }), iBot, o + "resource", "absolute URI"},
		"roots dir":      {oauth(func(p *OAuth2Provider) { p.Endpoint = &Endpoint{Roots: "missing.pem"} }), iBot, o + "endpoint.roots", "cannot be read"},
		"dial":           {oauth(func(p *OAuth2Provider) { p.Endpoint = &Endpoint{Dial: "x:http"} }), iBot, o + "endpoint.dial", "decimal number"},
		"private":        {oauth(func(p *OAuth2Provider) { p.Endpoint = &Endpoint{AllowPrivate: []string{"x"}} }), iBot, o + "endpoint.allowPrivate[0]", "CIDR"},
		"as":             {func(f *fixture) { f.spiffe.Spec.As = "root" }, iSpiffe, "spec.as", "must be egret"},
		"as ignored":     {func(f *fixture) { f.bot.Spec.As = "egret" }, iBot, "spec.as", "would be ignored"},
		"as static":      {func(f *fixture) { f.static.Spec.As = "egret" }, iStatic, "spec.as", "would be ignored"},
		"TTL":            {func(f *fixture) { f.bot.Spec.TTL = "48h" }, iBot, "spec.ttl", "from 1s to 24h"},
		"inject none":    {inject(), iBot, "spec.inject", "is required"},
		"inject kinds":   {inject(Inject{Header: "A", Query: "b", Value: "{token}"}), iBot, "spec.inject[0]", "exactly one"},
		"header name":    {inject(Inject{Header: "A B", Value: "{token}"}), iBot, in0 + "header", "header name"},
		"header hop":     {inject(Inject{Header: "Connection", Value: "{token}"}), iBot, in0 + "header", "frames or routes"},
		"header spelt":   {inject(Inject{Header: "Transfer_Encoding", Value: "{token}"}), iBot, in0 + "header", "frames or routes"},
		"header host":    {inject(Inject{Header: "host", Value: "{token}"}), iBot, in0 + "header", "frames or routes"},
		"header proxy":   {inject(Inject{Header: "Proxy-Authorization", Value: "{token}"}), iBot, in0 + "header", "frames or routes"},
		"no token":       {inject(Inject{Header: "A", Value: "Bearer"}), iBot, "spec.destinations[0]", "that holds {token}"},
		"no value":       {inject(Inject{Header: "A"}), iBot, in0 + "value", "must hold {token}"},
		"line break":     {inject(Inject{Header: "A", Value: "{token}\r\nB: c"}), iBot, in0 + "value", "line breaks"},
		"other variable": {inject(Inject{Header: "A", Value: "{token}{secret}"}), iBot, in0 + "value", "no braces"},
		"double braces":  {inject(Inject{Header: "A", Value: "{{token}}"}), iBot, in0 + "value", "no braces"},
		"no username":    {inject(Inject{Header: "A", Value: "{username} {token}"}), iBot, in0 + "value", "does not have"},
		"basic value":    {inject(Inject{Basic: "x", Value: "{token}"}), iBot, in0 + "value", "would be ignored"},
		"basic colon":    {inject(Inject{Basic: "x:y"}), iBot, in0 + "basic", "colon"},
		"basic token":    {inject(Inject{Basic: "{token}"}), iBot, in0 + "basic", "no braces"},
		"query name":     {inject(Inject{Query: "a&b", Value: "{token}"}), iBot, in0 + "query", "letters, digits"},
		"remove":         {inject(Inject{Header: "A", Value: "{token}", Remove: []string{"Host"}}), iBot, in0 + "remove[0]", "frames or routes"},
		"place twice":    {inject(Inject{Basic: "x"}, Inject{Header: "authorization", Value: "{token}"}), iBot, "spec.inject[1]", "set twice"},
		"not put in": {func(f *fixture) {
			f.bot.Spec.Destinations = append(f.bot.Spec.Destinations, "github")
			f.bot.Spec.Inject[0].Destinations = []string{"slack"}
		}, iBot, "spec.destinations[1]", "would not be put in"},
	})
}

func TestInjectNamesADestinationOfTheCredential(t *testing.T) {
	f := newFixture()
	f.bot.Spec.Inject = append(f.bot.Spec.Inject, Inject{Header: "X-Extra", Value: "{token}", Destinations: []string{"slakc"}})
	f.bot.Spec.Destinations = []string{"slack"}
	faults := f.bot.Validate()
	if len(faults) != 1 || faults[0].Path != "spec.inject[1].destinations[0]" || faults[0].Hint != "did you mean slack?" {
		t.Errorf("got %+v", faults)
	}
}

func TestAccessPolicyFaults(t *testing.T) {
	allow := func(a ...Allow) func(*fixture) { return func(f *fixture) { f.post.Spec.Allow = a } }
	method := func(m ...string) func(*fixture) { return allow(Allow{Methods: m, Paths: []string{"/a"}}) }
	path := func(p ...string) func(*fixture) { return allow(Allow{Methods: []string{"GET"}, Paths: p}) }
	headers := func(h ...string) func(*fixture) { return func(f *fixture) { f.post.Spec.AllowHeaders = h } }
	upgrade := func(u ...string) func(*fixture) { return func(f *fixture) { f.post.Spec.Upgrade = &u } }
	const m0, p0 = "spec.allow[0].methods[0]", "spec.allow[0].paths[0]"
	runFaults(t, map[string]oneFault{
		"owner":           {func(f *fixture) { f.post.Spec.Owner = "" }, iPost, "spec.owner", "is required"},
		"expires none":    {func(f *fixture) { f.post.Spec.Expires = "" }, iPost, "spec.expires", "is required"},
		"expires time":    {func(f *fixture) { f.post.Spec.Expires = "2027-03-31T00:00:00Z" }, iPost, "spec.expires", "must be a date"},
		"expires no day":  {func(f *fixture) { f.post.Spec.Expires = "2027-02-30" }, iPost, "spec.expires", "must be a date"},
		"review late":     {func(f *fixture) { f.post.Spec.ReviewBy = "2027-04-01" }, iPost, "spec.reviewBy", "at or before spec.expires"},
		"review":          {func(f *fixture) { f.post.Spec.ReviewBy = "soon" }, iPost, "spec.reviewBy", "must be a date"},
		"mode":            {func(f *fixture) { f.post.Spec.Mode = "off" }, iPost, "spec.mode", "must be one of"},
		"methods none":    {method(), iPost, "spec.allow[0].methods", "is required"},
		"method CONNECT":  {method("CONNECT"), iPost, m0, "always refused"},
		"method TRACE":    {method("TRACE"), iPost, m0, "always refused"},
		"method TRACK":    {method("TRACK"), iPost, m0, "always refused"},
		"method all":      {method("*"), iPost, m0, "must name a method"},
		"method lower":    {method("get"), iPost, m0, "upper case"},
		"method token":    {method("GET POST"), iPost, m0, "must be a method"},
		"method empty":    {method(""), iPost, m0, "must be a method"},
		"method twice":    {method("GET", "GET"), iPost, "spec.allow[0].methods[1]", "only once"},
		"paths none":      {path(), iPost, "spec.allow[0].paths", "is required"},
		"path relative":   {path("a"), iPost, p0, "begin with /"},
		"path star":       {path("/a*"), iPost, p0, "whole segment"},
		"path inner rest": {path("/**/a"), iPost, p0, "only at its end"},
		"path dots":       {path("/a/../b"), iPost, p0, "dot segments"},
		"path query":      {path("/a?b"), iPost, p0, "? or #"},
		"path encoded":    {path("/a%2Fb"), iPost, p0, "encoded: true"},
		"path twice":      {path("/a", "/a"), iPost, "spec.allow[0].paths[1]", "only once"},
		"header auth":     {headers("Private-Token"), iPost, "spec.allowHeaders[0]", "carries a credential"},
		"header key":      {headers("x_api_key"), iPost, "spec.allowHeaders[0]", "carries a credential"},
		"header host":     {headers("Host"), iPost, "spec.allowHeaders[0]", "frames or routes"},
		"header ours":     {headers("Egret-Decision"), iPost, "spec.allowHeaders[0]", "frames or routes"},
		"header twice":    {headers("X-A", "x_a"), iPost, "spec.allowHeaders[1]", "only once"},
		"upgrade h2c":     {upgrade("h2c"), iPost, "spec.upgrade[0]", "past the policy"},
		"upgrade case":    {upgrade("WebSocket"), iPost, "spec.upgrade[0]", "lower case"},
		"stream":          {func(f *fixture) { f.post.Spec.MaxStream = "-1s" }, iPost, "spec.maxStream", "must be a duration"},
		"stream long":     {func(f *fixture) { f.post.Spec.MaxStream = "2h" }, iPost, "spec.maxStream", "node's limit, 1h"},
	})
}

func TestNamesOfObjects(t *testing.T) {
	for name, ok := range map[string]bool{"a": true, "a-1": true, "0": true, strings.Repeat("a", 63): true,
		"": false, "A": false, "a_b": false, "-a": false, "a-": false, "a.b": false, strings.Repeat("a", 64): false, "ä": false} {
		if got := len(newWorkload(name, "spiffe://acme.example/x").Validate()) == 0; got != ok {
			t.Errorf("name %q: valid %v, want %v", name, got, ok)
		}
	}
	c := newFixture().bot
	c.Metadata.Name = "none"
	if len(c.Validate()) != 1 {
		t.Error("a credential may be called none")
	}
}

func TestAllFaultsOfAnObjectAreReportedAtOnce(t *testing.T) {
	if n := len((&Workload{}).Validate()); n != 7 {
		t.Errorf("the empty Workload has %d faults, want 7", n)
	}
	for _, v := range []interface{ Validate() []Fault }{&Destination{}, &Credential{}, &AccessPolicy{}} {
		if n := len(v.Validate()); n < 4 {
			t.Errorf("the empty %T has %d faults only", v, n)
		}
	}
}

func TestWordsToChooseFromAreWords(t *testing.T) {
	var f faults
	f.oneOf("spec.mode", "obsrve", "", "enforce", "observe")
	if len(f) != 1 || f[0].Rule != "must be one of enforce, observe" {
		t.Errorf("got %+v", f)
	}
}
