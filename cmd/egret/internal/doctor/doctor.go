// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package doctor looks at everything around an egret that must be well for it to work,
// as the user and in the place where it runs, and says what to change. It changes
// nothing: what it listens on it lets go of, and what it asks for it throws away.
package doctor

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/identity/process"
	"github.com/egret-proxy/egret/internal/redirect"
)

// Level is how well something is.
type Level string

// The levels. Only Fail keeps egret, or one of its listeners, from working.
const (
	OK   Level = "ok"
	Warn Level = "warn"
	Fail Level = "FAIL"
)

// Finding is one thing that was looked at. Its JSON form is part of the interface.
type Finding struct {
	Check  string `json:"check"`
	Level  Level  `json:"level"`
	Found  string `json:"found"`
	Change string `json:"change,omitempty"` // what to do, where it is not well
}

// Options are what is looked at.
type Options struct {
	// Config has no faults.
	Config *config.Node
	// Getenv is the environment of programs here; nil: os.Getenv.
	Getenv func(string) string
	// HostNetwork is config.HostNetwork; tests set it.
	HostNetwork func() bool
	// Wait bounds every question that is asked; 0: 5 s.
	Wait time.Duration
	// PID is the process that is asked about at listeners that identify by process; 0:
	// this one, as it is now.
	PID int
	// Firewall looks at the rules of this network namespace, and Listening at the ports that
	// are listened on in it; nil: at the true ones.
	Firewall  func(context.Context) (redirect.Found, error)
	Listening func() []uint16
	// IsWorkload says whether an ID is a Workload of the policy; nil: every one is.
	IsWorkload func(spiffeid.ID) bool
}

// examination is one visit.
type examination struct {
	Options
	found []Finding
	self  self // who we are to the Workload API
	live  bool // an egret answers at the admin socket

	attestors map[way]process.Attestor // that process listeners ask; nil where they cannot be
}

func (e *examination) ok(check, format string, args ...any) {
	e.found = append(e.found, Finding{Check: check, Level: OK, Found: fmt.Sprintf(format, args...)})
}

func (e *examination) bad(level Level, check, change string, found any) {
	e.found = append(e.found, Finding{Check: check, Level: level, Found: fmt.Sprint(found), Change: change})
}

// defaultWait is longer than an agent's restart.
const defaultWait = 5 * time.Second

// Examine looks at everything but settings and policy, which package config judges.
func Examine(ctx context.Context, o Options) []Finding {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.HostNetwork == nil {
		o.HostNetwork = config.HostNetwork
	}
	if o.Wait == 0 {
		o.Wait = defaultWait
	}
	if o.IsWorkload == nil {
		o.IsWorkload = func(spiffeid.ID) bool { return true }
	}
	if o.Firewall == nil {
		o.Firewall = firewall
	}
	if o.Listening == nil {
		o.Listening = listening
	}
	e := &examination{Options: o}
	src, stop := e.identity(ctx)
	defer stop()
	defer e.agents(ctx, src)()
	e.admin(ctx)
	e.metrics(ctx)
	e.authority()
	e.clientTrust()
	e.kernel()
	e.network()
	e.capture(ctx)
	for _, l := range e.Config.Listeners {
		e.listener(l)
		e.caller(ctx, l, src)
	}
	return e.found
}

// left writes a remaining life as people say it.
func left(d time.Duration) string {
	if d >= 48*time.Hour {
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
	return d.Truncate(time.Second).String()
}

// Names of certificates in a line.
const mostNames = 4

func names(c *x509.Certificate) string {
	list := c.PermittedDNSDomains
	if len(list) > mostNames {
		return fmt.Sprintf("%v and %d more", list[:mostNames], len(list)-mostNames)
	}
	return fmt.Sprint(list)
}
