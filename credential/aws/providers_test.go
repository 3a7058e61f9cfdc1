// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer/issuertest"
	"github.com/egret-proxy/egret/internal/secret"
)

func webIdentity(t testing.TB, s *issuertest.Server, change func(*WebIdentityConfig)) *WebIdentity {
	t.Helper()
	c := WebIdentityConfig{RoleARN: roleARN, Region: "eu-central-1", Issuer: s.Options()}
	if change != nil {
		change(&c)
	}
	p, err := NewWebIdentity(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func anywhere(t testing.TB, s *issuertest.Server, change func(*RolesAnywhereConfig)) *RolesAnywhere {
	t.Helper()
	c := RolesAnywhereConfig{TrustAnchorARN: anchorARN, ProfileARN: profileARN, RoleARN: roleARN, Issuer: s.Options()}
	if change != nil {
		change(&c)
	}
	p, err := NewRolesAnywhere(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func ecKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func isKeys(t *testing.T, tok credential.Token, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if tok.Fingerprint != theID || tok.Values[accessKeyID].Reveal() != theID || tok.Values[secretAccessKey].Reveal() != theSecret || tok.Values[sessionToken].Reveal() != theToken {
		t.Errorf("token of %d values, fingerprint %q", len(tok.Values), tok.Fingerprint)
	}
	if tok.Lifetime < 59*time.Minute || tok.Lifetime > time.Hour+2*time.Second {
		t.Errorf("lifetime %s", tok.Lifetime)
	}
}

func kindOf(t *testing.T, err error, want credential.Kind) *credential.Error {
	t.Helper()
	var e *credential.Error
	if !errors.As(err, &e) || e.Kind != want {
		t.Fatalf("%v, want %s", err, want)
	}
	return e
}

func TestWebIdentityAsks(t *testing.T) {
	twin := &stsTwin{}
	s := issuertest.NewServer(t, twin)
	sub := &subject{}
	tok, err := webIdentity(t, s, func(c *WebIdentityConfig) {
		c.Duration, c.PolicyARNs = 15*time.Minute, []string{"arn:aws:iam::aws:policy/ReadOnlyAccess", "arn:aws:iam::123456789012:policy/x"}
		c.Policy = `{"Version":"2012-10-17","Statement":[]}`
	}).Fetch(t.Context(), credential.Key{ID: reports}, sub)
	isKeys(t, tok, err)
	f := *twin.last.Load()
	for name, want := range map[string]string{
		"DurationSeconds": "900", "PolicyArns.member.1.arn": "arn:aws:iam::aws:policy/ReadOnlyAccess", "PolicyArns.member.2.arn": "arn:aws:iam::123456789012:policy/x",
		"Policy": `{"Version":"2012-10-17","Statement":[]}`, "RoleSessionName": "ns+data+sa+reports@acme.example",
	} {
		if f.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, f.Get(name), want)
		}
	}
	if len(sub.asked) != 1 || sub.asked[0] != DefaultAudience {
		t.Errorf("SVIDs were asked for %q", sub.asked)
	}
}

func TestWebIdentityRefusals(t *testing.T) {
	twin := &stsTwin{}
	s := issuertest.NewServer(t, twin)
	p := webIdentity(t, s, nil)
	_, err := p.Fetch(t.Context(), credential.Key{ID: reports}, nil)
	kindOf(t, err, credential.Unconfigured)
	_, err = p.Fetch(t.Context(), credential.Key{ID: reports}, &subject{err: errors.New("agent is away")})
	kindOf(t, err, credential.Unreachable)
	other := webIdentity(t, s, func(c *WebIdentityConfig) { c.RoleARN += "s" })
	_, err = other.Fetch(t.Context(), credential.Key{ID: reports}, &subject{})
	if e := kindOf(t, err, credential.Refused); !strings.Contains(e.Error(), "AccessDenied") || strings.Contains(e.Error(), "hush") {
		t.Error(e)
	}
}

// Every code of AWS by whether asking again helps; texts are never told.
func TestErrorsOfSTS(t *testing.T) {
	for code, x := range map[string]struct {
		status int
		kind   credential.Kind
		told   bool
	}{
		"IDPCommunicationError": {400, credential.Unreachable, true}, "Throttling": {400, credential.Unreachable, true},
		"ThrottlingException": {400, credential.Unreachable, true}, "ServiceUnavailable": {503, credential.Unreachable, true}, "InternalFailure": {500, credential.Unreachable, true},
		"InvalidIdentityToken": {400, credential.Refused, true}, "ExpiredTokenException": {400, credential.Refused, true}, "IDPRejectedClaim": {403, credential.Refused, true},
		"MalformedPolicyDocument": {400, credential.Refused, true}, "PackedPolicyTooLarge": {400, credential.Refused, true}, "RegionDisabledException": {403, credential.Refused, true},
		"AccessDenied": {403, credential.Refused, true}, "ValidationError": {400, credential.Refused, true},
		"hush-hush": {400, credential.NotMinted, false}, "hush-hush-2": {403, credential.Refused, false},
	} {
		t.Run(code, func(t *testing.T) {
			s := issuertest.NewServer(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "9")
				stsError(w, x.status, code)
			}))
			_, err := webIdentity(t, s, nil).Fetch(t.Context(), credential.Key{ID: reports}, &subject{})
			e := kindOf(t, err, x.kind)
			if told := strings.Contains(e.Error(), strings.TrimSuffix(code, "Exception")); told != x.told || strings.Contains(e.Error(), "hush") || e.RetryAfter != 9*time.Second {
				t.Errorf("%v, retry after %s", e, e.RetryAfter)
			}
		})
	}
}

// Answers that are almost right hold nothing usable.
func TestAnswersOfSTSThatAreNotUsed(t *testing.T) {
	good := assumedXML(time.Now().Add(time.Hour))
	for name, text := range map[string]string{
		"JSON": `{"AssumeRoleWithWebIdentityResponse":{}}`, "another call": strings.ReplaceAll(good, "AssumeRoleWithWebIdentity", "AssumeRole"),
		"no secret": strings.Replace(good, theSecret, "", 1), "no token": strings.Replace(good, theToken, "", 1), "no id": strings.Replace(good, theID, "", 1),
		"id with a line": strings.Replace(good, theID, "a&#10;b", 1), "id with a slash": strings.Replace(good, theID, "a/b", 1),
		"entity": `<!DOCTYPE x [<!ENTITY e "hush">]>` + strings.Replace(good, theID, "&e;", 1), "half": good[:len(good)/2],
	} {
		t.Run(name, func(t *testing.T) {
			s := issuertest.NewServer(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/xml; charset=utf-8")
				_, _ = io.WriteString(w, text)
			}))
			_, err := webIdentity(t, s, nil).Fetch(t.Context(), credential.Key{ID: reports}, &subject{})
			if e := kindOf(t, err, credential.NotMinted); strings.Contains(e.Error(), "hush") {
				t.Error(e)
			}
		})
	}
}

func TestWebIdentityFaultMatrix(t *testing.T) {
	issuertest.Matrix{
		Twin:     func(*testing.T) http.Handler { return &stsTwin{} },
		Provider: func(t *testing.T, s *issuertest.Server) credential.Provider { return webIdentity(t, s, nil) },
		Subject:  &subject{}, Secrets: []string{theSecret, theToken, "hush-hush-signature"},
		Skip: []string{"twice", "not UTF-8"}, // faults of JSON, which change nothing in XML
	}.Run(t)
}

func TestRolesAnywhereAsks(t *testing.T) {
	a := newAnchor(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, sub := range map[string]*subject{
		"ECDSA": {cert: a.svid(t, ecKey(t), false)}, "RSA": {cert: a.svid(t, rsaKey, false)}, "chain": {cert: a.svid(t, ecKey(t), true)},
	} {
		t.Run(name, func(t *testing.T) {
			twin := &anywhereTwin{anchor: a}
			s := issuertest.NewServer(t, twin)
			tok, err := anywhere(t, s, func(c *RolesAnywhereConfig) { c.Duration, c.SessionName = time.Hour, "egret.{workload}" }).Fetch(t.Context(), credential.Key{ID: reports}, sub)
			isKeys(t, tok, err)
			if got := *twin.last.Load(); got != `{"durationSeconds":3600,"roleSessionName":"egret.ns+data+sa+reports@acme.example"}` {
				t.Errorf("asked with %s", got)
			}
		})
	}
}

func TestRolesAnywhereRefusals(t *testing.T) {
	a := newAnchor(t)
	twin := &anywhereTwin{anchor: a}
	s := issuertest.NewServer(t, twin)
	p := anywhere(t, s, nil)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		sub  credential.Subject
		kind credential.Kind
	}{
		"nobody":      {nil, credential.Unconfigured},
		"agent away":  {&subject{err: errors.New("away")}, credential.Unreachable},
		"another CA":  {&subject{cert: newAnchor(t).svid(t, ecKey(t), false)}, credential.Refused},
		"Ed25519 key": {&subject{cert: a.svid(t, ed, false)}, credential.Unconfigured},
		"no SVID":     {&subject{}, credential.Unconfigured},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := p.Fetch(t.Context(), credential.Key{ID: reports}, x.sub)
			if e := kindOf(t, err, x.kind); strings.Contains(e.Error(), "hush") {
				t.Error(e)
			}
		})
	}
	if twin.calls.Load() != 1 {
		t.Errorf("%d calls for one refusal with a good clock", twin.calls.Load())
	}
}

// A clock that is wrong is found out by AWS' own, and what was learnt goes on to the
// signer.
func TestTheClockIsLearnt(t *testing.T) {
	a := newAnchor(t)
	for _, ahead := range []time.Duration{time.Hour, -20 * time.Minute, 2 * time.Second} {
		twin := &anywhereTwin{anchor: a}
		twin.ahead.Store(int64(ahead))
		s := issuertest.NewServer(t, twin)
		p := anywhere(t, s, nil)
		sub := &subject{cert: a.svid(t, ecKey(t), false)}
		for i, calls := range []int64{2, 3} { // the second time it knows
			if ahead.Abs() < minSkew {
				calls = int64(i + 1)
			}
			tok, err := p.Fetch(t.Context(), credential.Key{ID: reports}, sub)
			isKeys(t, tok, err)
			if twin.calls.Load() != calls {
				t.Errorf("ahead by %s: %d calls, want %d", ahead, twin.calls.Load(), calls)
			}
			if got := aheadOf(tok); (got-ahead).Abs() > 3*time.Second && ahead.Abs() >= minSkew || ahead.Abs() < minSkew && got != 0 {
				t.Errorf("ahead by %s: the signer is told %s", ahead, got)
			}
		}
	}
}

func aheadOf(tok credential.Token) time.Duration { return ahead(tok.Values) }

func TestRolesAnywhereFaultMatrix(t *testing.T) {
	a := newAnchor(t)
	issuertest.Matrix{
		Twin:     func(*testing.T) http.Handler { return &anywhereTwin{anchor: a} },
		Provider: func(t *testing.T, s *issuertest.Server) credential.Provider { return anywhere(t, s, nil) },
		Subject:  &subject{cert: a.svid(t, ecKey(t), true)}, Secrets: []string{theSecret, theToken},
	}.Run(t)
}

// stored is a secret in memory.
type stored struct {
	value   string
	err     error
	changes chan struct{}
	closed  bool
}

func newStored(v string) *stored { return &stored{value: v, changes: make(chan struct{}, 1)} }

func (s *stored) Value() (secret.Secret, error) { return secret.New(s.value), s.err }
func (s *stored) Changes() <-chan struct{}      { return s.changes }
func (s *stored) Close() error                  { s.closed = true; close(s.changes); return nil }

func TestStaticKeys(t *testing.T) {
	id, key, token := newStored("KEY-1\n"), newStored("secret-1"), newStored("")
	p, err := NewStatic(StaticConfig{AccessKeyID: id, SecretAccessKey: key, SessionToken: token})
	if err != nil {
		t.Fatal(err)
	}
	tok, err := p.Fetch(t.Context(), credential.Key{}, nil)
	if err != nil || tok.Fingerprint != "KEY-1" || tok.Lifetime != 0 || len(tok.Values) != 2 {
		t.Errorf("%d values, %q, %v", len(tok.Values), tok.Fingerprint, err)
	}
	key.value = "secret-2"
	key.changes <- struct{}{}
	<-p.Changes()
	if tok, err := p.Fetch(t.Context(), credential.Key{}, nil); err != nil || tok.Values[secretAccessKey].Reveal() != "secret-2" {
		t.Errorf("%v", err)
	}
	key.err = errors.New("gone")
	_, err = p.Fetch(t.Context(), credential.Key{}, nil)
	kindOf(t, err, credential.Unreachable)
	key.err, key.value = nil, ""
	_, err = p.Fetch(t.Context(), credential.Key{}, nil)
	kindOf(t, err, credential.NotMinted)
	if err := p.Close(); err != nil || !id.closed || !key.closed || !token.closed {
		t.Errorf("close: %v", err)
	}
	if _, open := <-p.Changes(); open {
		t.Error("changes of a closed provider")
	}
	if _, err := NewStatic(StaticConfig{AccessKeyID: id}); err == nil {
		t.Error("a half pair of keys")
	}
}

func TestSessionNames(t *testing.T) {
	long := spiffeid.RequireFromString("spiffe://acme.example/" + strings.Repeat("very-long-segment/", 8) + "end")
	almost := spiffeid.RequireFromString("spiffe://acme.example/" + strings.Repeat("very-long-segment/", 8) + "enc")
	seen := map[string]string{}
	for _, id := range []spiffeid.ID{
		reports, long, almost, {}, spiffeid.RequireFromString("spiffe://acme.example"), spiffeid.RequireFromString("spiffe://acme.example/a/b"),
		spiffeid.RequireFromString("spiffe://acme.example/a-b"), spiffeid.RequireFromString("spiffe://acme.example/a.b"), spiffeid.RequireFromString("spiffe://a/b"),
	} {
		for _, template := range []string{"", "egret-{workload}", "{workload}.x"} {
			name := sessionName(template, id)
			if len(name) < minSessionName || len(name) > maxSessionName || !sessionForm.MatchString(name) {
				t.Errorf("%s %q: %q", id, template, name)
			}
			if other, taken := seen[name]; taken {
				t.Errorf("%s and %s are both %q", id, other, name)
			}
			seen[name] = id.String() + template
		}
	}
	if got := sessionName("", long); !strings.Contains(got, "+end,") {
		t.Errorf("the end of a long path is not to be seen: %q", got)
	}
	if sessionName("fixed", reports) != "fixed" {
		t.Error("a template without a placeholder was changed")
	}
	for template, ok := range map[string]bool{"ab": true, "a": false, "{workload}": true, "{workload}{workload}": false, "a b": false, "x{workload}": true, strings.Repeat("a", 25) + "{workload}": false, strings.Repeat("a", 65): false, "{other}": false} {
		if err := CheckSessionName(template); (err == nil) != ok {
			t.Errorf("%q: %v", template, err)
		}
	}
}

// The name of a session is one that AWS takes, whoever the caller is, and each has its own.
func FuzzSessionName(f *testing.F) {
	f.Add("acme.example", "/ns/data/sa/reports", "/ns/data/sa-reports")
	f.Fuzz(func(t *testing.T, td, p1, p2 string) {
		a, err1 := spiffeid.FromString("spiffe://" + td + p1)
		b, err2 := spiffeid.FromString("spiffe://" + td + p2)
		if err1 != nil || err2 != nil || a == b {
			t.Skip()
		}
		x, y := sessionName("e-{workload}", a), sessionName("e-{workload}", b)
		if x == y || len(x) > maxSessionName || len(y) > maxSessionName || !sessionForm.MatchString(x) {
			t.Errorf("%s is %q, %s is %q", a, x, b, y)
		}
	})
}

func TestConfigsThatAreRefused(t *testing.T) {
	for want, c := range map[string]WebIdentityConfig{
		"region":          {RoleARN: roleARN},
		`region "EU"`:     {RoleARN: roleARN, Region: "EU"},
		"roleARN":         {RoleARN: "arn:aws:iam::1:role/x", Region: "eu-central-1"},
		"https":           {RoleARN: roleARN, URL: "http://sts.example/"},
		"duration":        {RoleARN: roleARN, Region: "eu-central-1", Duration: time.Minute},
		"sessionName":     {RoleARN: roleARN, Region: "eu-central-1", SessionName: "a b"},
		"policyARNs":      {RoleARN: roleARN, Region: "eu-central-1", PolicyARNs: []string{"x"}},
		"JSON":            {RoleARN: roleARN, Region: "eu-central-1", Policy: "x"},
		"2048 characters": {RoleARN: roleARN, Region: "eu-central-1", Policy: strings.Repeat(" ", 2049)},
	} {
		if _, err := NewWebIdentity(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	good := RolesAnywhereConfig{TrustAnchorARN: anchorARN, ProfileARN: profileARN, RoleARN: roleARN}
	for want, change := range map[string]func(*RolesAnywhereConfig){
		"trustAnchorARN": func(c *RolesAnywhereConfig) { c.TrustAnchorARN, c.Region = profileARN, "eu-central-1" },
		"profileARN":     func(c *RolesAnywhereConfig) { c.ProfileARN = anchorARN },
		"roleARN":        func(c *RolesAnywhereConfig) { c.RoleARN = "" },
		"region":         func(c *RolesAnywhereConfig) { c.Region = "EU" },
		"https":          func(c *RolesAnywhereConfig) { c.URL = "https://x.example/path" },
		"duration":       func(c *RolesAnywhereConfig) { c.Duration = 13 * time.Hour },
		"sessionName":    func(c *RolesAnywhereConfig) { c.SessionName = "x" },
	} {
		c := good
		change(&c)
		if _, err := NewRolesAnywhere(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestEndpointsOfPartitions(t *testing.T) {
	for region, want := range map[string]string{
		"eu-central-1": "sts.eu-central-1.amazonaws.com", "us-gov-west-1": "sts.us-gov-west-1.amazonaws.com", "cn-north-1": "sts.cn-north-1.amazonaws.com.cn",
	} {
		if got := host("sts", region); got != want || CheckRegion(region) != nil {
			t.Errorf("%s: %s", region, got)
		}
	}
}

var _ credential.Subject = (*subject)(nil)

func TestProvidersCloseAndGiveUp(t *testing.T) {
	s := issuertest.NewServer(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := webIdentity(t, s, nil).Fetch(ctx, credential.Key{ID: reports}, &subject{})
	kindOf(t, err, credential.Unreachable)
}
