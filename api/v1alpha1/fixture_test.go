// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/policy"
)

// fixture is a set without faults; a test changes one thing.
type fixture struct {
	job, scoped                          *Workload
	slack, bank, github                  *Destination
	bot, static, spiffe                  *Credential
	post, clone, tunnel, none, byPattern *AccessPolicy
	scope                                []string // of the scoped workload and its policy
	extra                                []Object
	opt                                  Options
}

func newWorkload(name, id string) *Workload {
	return &Workload{APIVersion, KindWorkload, Meta{name}, WorkloadSpec{SpiffeID: id, Owner: "qa@acme.example", Purpose: "posts results", Environment: "production"}}
}

func newDestination(name string, hosts ...string) *Destination {
	return &Destination{APIVersion, KindDestination, Meta{name}, DestinationSpec{Hosts: hosts}}
}

func newCredential(name, destination string, p Provider, in ...Inject) *Credential {
	return &Credential{APIVersion, KindCredential, Meta{name}, CredentialSpec{Owner: "qa@acme.example", Environment: "production",
		Destinations: []string{destination}, UsableBy: []string{"job"}, Provider: p, Inject: in}}
}

func newPolicy(name, workload, destination, credential string, allow ...Allow) *AccessPolicy {
	return &AccessPolicy{APIVersion, KindAccessPolicy, Meta{name}, AccessPolicySpec{Owner: "qa@acme.example", Workload: workload,
		Destination: destination, Credential: credential, Allow: allow, Expires: "2027-03-31"}}
}

func newFixture() *fixture {
	secret := SecretSource{File: "/run/secret"}
	bearer := Inject{Header: "Authorization", Value: "Bearer {token}"}
	f := &fixture{
		job:    newWorkload("job", "spiffe://acme.example/ns/qa/sa/dashboard"),
		scoped: newWorkload("scoped", "spiffe://acme.example/ns/team/sa/*"),
		slack:  newDestination("slack", "slack.com", "*.slack.com"),
		bank:   newDestination("bank", "bank.example", "192.0.2.1"),
		github: newDestination("github", "api.github.com", "github.com"),
		bot:    newCredential("bot", "slack", Provider{OAuth2: &OAuth2Provider{Grant: "client_credentials", TokenURL: "https://idp.example/token", ClientID: "x", ClientSecret: &secret, Scopes: []string{"b", "a"}}}, bearer),
		static: newCredential("static", "github", Provider{Static: &StaticProvider{Value: secret, Username: "x-access-token"}}, Inject{Basic: "{username}"}),
		spiffe: newCredential("spiffe", "slack", Provider{OAuth2: &OAuth2Provider{Grant: "client_credentials", TokenURL: "https://idp.example:8443/token", ClientAuth: "jwt-spiffe"}}, bearer),
		post:   newPolicy("post", "job", "slack", "bot", Allow{Methods: []string{"POST"}, Paths: []string{"/api/chat.postMessage", "/api/files/**"}}),
		clone:  newPolicy("clone", "job", "github", "static", Allow{Methods: []string{"GET", "HEAD"}, Paths: []string{"/repos/*/contents/*"}, Encoded: true}),
		tunnel: newPolicy("tunnel", "job", "bank", ""),
		none:   newPolicy("none", "job", "slack", "none", Allow{Methods: []string{"GET"}, Paths: []string{"/public/**"}}),
		scope:  []string{"spiffe://acme.example/ns/team/**"},
		opt: Options{MaxStream: time.Hour, Roots: func(file string) (*x509.CertPool, string, error) {
			if strings.Contains(file, "missing") {
				return nil, "", errors.New("cannot be read")
			}
			return x509.NewCertPool(), "digest of " + file, nil
		}},
	}
	f.bank.Spec.Intercept = "never"
	f.spiffe.Spec.UsableBy = []string{"spiffe://acme.example/ns/team/**"}
	f.byPattern = newPolicy("by-pattern", "scoped", "slack", "spiffe", Allow{Methods: []string{"GET"}, Paths: []string{"/**"}})
	return f
}

// Indices of the fixture's objects.
const (
	iJob = iota
	iScoped
	iSlack
	iBank
	iGithub
	iBot
	iStatic
	iSpiffe
	iPost
	iClone
	iTunnel
	iNone
	iByPattern
	iExtra
)

func (f *fixture) objects() []Object {
	return append([]Object{
		{Source: "job.yaml", Workload: f.job}, {Source: "team/w.yaml", Scope: f.scope, Workload: f.scoped},
		{Destination: f.slack}, {Destination: f.bank}, {Destination: f.github},
		{Credential: f.bot}, {Credential: f.static}, {Credential: f.spiffe},
		{AccessPolicy: f.post}, {AccessPolicy: f.clone}, {AccessPolicy: f.tunnel}, {AccessPolicy: f.none},
		{Source: "team/p.yaml", Scope: f.scope, AccessPolicy: f.byPattern},
	}, f.extra...)
}

func (f *fixture) compile(t testing.TB) *Compiled {
	t.Helper()
	c, faults := Compile(f.objects(), f.opt)
	for _, x := range faults {
		t.Fatalf("object %d: %+v", x.Object, x.Fault)
	}
	return c
}

func id(s string) spiffeid.ID { return spiffeid.RequireFromString("spiffe://acme.example" + s) }

func day(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, time.UTC) }

func request(who, host, method, path string) policy.Request {
	return policy.Request{ID: id(who), Evidence: "sidecar", Target: policy.Target{Host: host, Port: 443}, Method: method, Path: path, At: day(2027, 1, 4)}
}
