// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/egret-proxy/egret/policy"
	"github.com/egret-proxy/egret/policy/minting"
	"github.com/egret-proxy/egret/policy/operation"
)

const interceptNever = "never"

// MaxHosts is how many hosts one Destination can list.
const MaxHosts = 10_000

func (s *DestinationSpec) tunnelled() bool { return s.Intercept == interceptNever }

// Validate returns everything that is wrong within the object.
func (x *Destination) Validate() []Fault {
	var f faults
	f.head(x.APIVersion, x.Kind, KindDestination)
	f.name("metadata.name", x.Metadata.Name)
	f.oneOf("spec.intercept", x.Spec.Intercept, "", "always", interceptNever)
	f.hosts(&x.Spec)
	f.ports(x.Spec.Ports)
	f.dial("spec.dial", x.Spec.Dial)
	f.prefixes("spec.allowPrivate", x.Spec.AllowPrivate)
	if x.Spec.tunnelled() {
		f.absent("spec.tls", x.Spec.TLS != nil, "with intercept: never")
		f.absent("spec.refused", x.Spec.Refused != nil, "with intercept: never")
		f.absent("spec.operation", x.Spec.Operation != "", "with intercept: never")
		f.absent("spec.operationField", x.Spec.OperationField != "", "with intercept: never")
		f.absent("spec.bodyCredentials", len(x.Spec.BodyCredentials) > 0, "with intercept: never")
		return f
	}
	if x.Spec.TLS != nil {
		f.file("spec.tls.roots", x.Spec.TLS.Roots)
	}
	f.refused(x.Spec.Refused)
	f.operation(&x.Spec)
	f.bodyCredentials(x.Spec.BodyCredentials)
	return f
}

// hosts returns the canonical names.
func (f *faults) hosts(s *DestinationSpec) []string {
	const path = "spec.hosts"
	if len(s.Hosts) == 0 {
		f.add(Fault{path, "", "is required", "list the host names of the SaaS"})
	}
	if len(s.Hosts) > MaxHosts {
		f.add(Fault{path, strconv.Itoa(len(s.Hosts)), fmt.Sprintf("must be at most %d hosts", MaxHosts), "make a second destination"})
		return nil
	}
	var out []string
	seen := make(map[string]bool, len(s.Hosts))
	for i, h := range s.Hosts {
		name, err := policy.ParseHostPattern(h)
		switch {
		case err != nil:
			f.wrong(at(path, i), h, err)
			continue
		case (policy.Target{Host: name}).IsIP() && !s.tunnelled():
			f.add(Fault{at(path, i), h, "must be a name: an IP address cannot be intercepted", "name the host, or set intercept: never"})
		case openWildcard(name):
			f.add(Fault{at(path, i), h, "must not be a wildcard under which anybody can register a name", "list the names that you mean"})
		case seen[name]:
			f.bad(at(path, i), h, "must stand only once in the list")
		}
		seen[name] = true
		out = append(out, name)
	}
	return out
}

// openWildcard reports a wildcard directly under a public suffix, such as "*.com",
// "*.co.uk" or "*.github.io": the credential would go to whoever registers there.
func openWildcard(name string) bool {
	parent, wild := strings.CutPrefix(name, "*.")
	suffix, _ := publicsuffix.PublicSuffix(parent)
	return wild && suffix == parent
}

func (f *faults) ports(list []int) {
	for i, p := range list {
		switch {
		case p < 1 || p > 65535:
			f.bad(at("spec.ports", i), strconv.Itoa(p), "must be from 1 to 65535")
		case slices.Contains(list[:i], p):
			f.bad(at("spec.ports", i), strconv.Itoa(p), "must stand only once in the list")
		}
	}
	if list != nil && len(list) == 0 {
		f.add(Fault{"spec.ports", "[]", "must not be empty", "leave it out for 443"})
	}
}

func (f *faults) refused(r *Refused) {
	if r == nil {
		return
	}
	switch {
	case r.JSON == nil && r.ErrorCodes == nil:
		f.add(Fault{"spec.refused", "", "must have json or errorCodes", "leave it out where the SaaS answers 401"})
	case r.JSON != nil && len(r.JSON) == 0:
		f.bad("spec.refused.json", "", "must name at least one member of the answer")
	case r.ErrorCodes != nil && len(r.ErrorCodes) == 0:
		f.bad("spec.refused.errorCodes", "", "must name at least one error")
	}
	for _, k := range slices.Sorted(maps.Keys(r.JSON)) {
		if k == "" || len(r.JSON[k]) == 0 {
			f.bad("spec.refused.json."+k, "", "must list the values that mean refused")
		}
	}
	for i, c := range r.ErrorCodes {
		if strings.Trim(c, errorCode) != "" || c == "" || len(c) > 128 {
			f.add(Fault{at("spec.refused.errorCodes", i), c, "must be 1 to 128 letters, digits and ._-",
				"write the bare name, without a namespace before # and without what follows a colon: ExpiredTokenException"})
		}
	}
	f.distinct("spec.refused.errorCodes", r.ErrorCodes)
}

// errorCode is what names of errors are made of.
const errorCode = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

// operation checks the extractor.
func (f *faults) operation(s *DestinationSpec) {
	const path = "spec.operation"
	f.oneOf(path, s.Operation, append([]string{""}, operation.Kinds()...)...)
	f.absent("spec.operationField", s.Operation != operation.Form && s.OperationField != "", "without operation: form")
	if s.Operation == operation.Form {
		_, err := operation.New(s.Operation, s.OperationField)
		f.wrong("spec.operationField", s.OperationField, err)
	}
	needsAWS := minting.Builtin().At(s.Hosts).NeedsOperations()
	for i, h := range s.Hosts {
		atAWS := operation.AWSHost("x." + strings.ToLower(strings.TrimPrefix(h, "*.")))
		switch {
		case s.Operation == operation.AWS && !atAWS:
			f.add(Fault{at("spec.hosts", i), h, "must be a host of AWS with operation: aws", "operation: s3 reads the S3 API elsewhere"})
		case s.Operation != "" && s.Operation != operation.AWS && atAWS && needsAWS:
			f.add(Fault{path, s.Operation, "must be aws at a host where calls of AWS hand out secrets", "list such hosts in a destination of their own"})
			return
		}
	}
}

func (f *faults) bodyCredentials(list []string) {
	for i, name := range list {
		if strings.Trim(name, queryName) != "" || name == "" || len(name) > 64 {
			f.bad(at("spec.bodyCredentials", i), name, "must be 1 to 64 letters, digits and -._~")
		}
	}
	f.distinct("spec.bodyCredentials", list)
}

// compile makes the policy's form of a valid Destination, without its roots.
func (x *Destination) compile() *policy.Destination {
	var f faults // of a valid object none arise
	d := &policy.Destination{
		Name:         x.Metadata.Name,
		Hosts:        f.hosts(&x.Spec),
		Ports:        []uint16{443},
		Intercept:    !x.Spec.tunnelled(),
		Dial:         x.Spec.Dial,
		AllowPrivate: f.prefixes("", x.Spec.AllowPrivate),

		BodyCredentials: slices.Clone(x.Spec.BodyCredentials),
	}
	if x.Spec.Operation != "" {
		d.Operation, _ = operation.New(x.Spec.Operation, x.Spec.OperationField) // validated
	}
	if x.Spec.Ports != nil {
		d.Ports = nil
		for _, p := range x.Spec.Ports {
			d.Ports = append(d.Ports, uint16(p)) // validated to be a port
		}
	}
	if x.Spec.Refused != nil {
		d.Refused = &policy.Refused{JSON: x.Spec.Refused.JSON, ErrorCodes: slices.Clone(x.Spec.Refused.ErrorCodes)}
	}
	return d
}
