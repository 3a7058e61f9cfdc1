// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"errors"
	"strconv"
	"strings"

	"github.com/egret-proxy/egret/credential/aws"
	"github.com/egret-proxy/egret/policy"
)

// SigV4 signs the whole request with AWS Signature Version 4, in place of the caller's
// own signature, which may be made with placeholder keys, or absent.
type SigV4 struct {
	// Service is what hosts that are not in hosts are signed for, as AWS names it in signatures: s3, sts, dynamodb, bedrock. With region.
	Service string `json:"service,omitempty"`
	// Region is that of the same hosts: eu-central-1. A caller that has signed for another one is refused.
	Region string `json:"region,omitempty"`
	// Hosts says it for each host, where a credential's destinations have several. Default: service and region for all.
	Hosts []SigV4Host `json:"hosts,omitempty"`
	// MaxBody is how much of a body is held in memory to be hashed, where the caller does not send X-Amz-Content-Sha256 and the service is not S3, 1KiB to 64MiB. Larger ones are refused. Default: 1MiB.
	MaxBody string `json:"maxBody,omitempty"`
}

// SigV4Host is what requests to a host are signed for.
type SigV4Host struct {
	// Host is an exact name, or "*.example.com" for exactly one label: of the credential's destinations. Required.
	Host string `json:"host"`
	// Service as AWS names it in signatures. Required.
	Service string `json:"service"`
	// Region of the host. Required.
	Region string `json:"region"`
}

const (
	minSignedBody = 1 << 10
	maxSignedBody = 64 << 20
)

// BodyLimit returns MaxBody in bytes, zero for the default.
func (s *SigV4) BodyLimit() (int64, error) {
	if s.MaxBody == "" {
		return 0, nil
	}
	digits, unit := s.MaxBody, int64(1)
	for suffix, size := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20} {
		if d, ok := strings.CutSuffix(s.MaxBody, suffix); ok {
			digits, unit = d, size
		}
	}
	n, err := strconv.ParseUint(digits, 10, 31)
	if err != nil || int64(n)*unit < minSignedBody || int64(n)*unit > maxSignedBody {
		return 0, errors.New("must be a number of bytes with KiB, MiB or no unit, from 1KiB to 64MiB")
	}
	return int64(n) * unit, nil
}

// sigV4 checks an entry by itself; signedHosts checks it against the destinations.
func (f *faults) sigV4(path string, in *Inject, t traits) {
	s := in.SigV4
	path += ".sigv4"
	if !t.signs {
		f.add(Fault{path, "", "must be absent unless the provider gives AWS keys", "use provider: {aws: ...}"})
	}
	f.absent(path[:len(path)-len(".sigv4")]+".value", in.Value != "", "with sigv4")
	if len(s.Hosts) == 0 || s.Service != "" || s.Region != "" {
		f.awsScope(path, s.Service, s.Region)
	}
	var seen []string
	for i, h := range s.Hosts {
		name, err := policy.ParseHostPattern(h.Host)
		f.wrong(at(path+".hosts", i)+".host", h.Host, err)
		f.awsScope(at(path+".hosts", i), h.Service, h.Region)
		seen = append(seen, name)
	}
	f.distinct(path+".hosts", seen)
	_, err := s.BodyLimit()
	f.wrong(path+".maxBody", s.MaxBody, err)
}

// carriers says what an entry of inject must hold to put the credential in.
func (t traits) carriers() string {
	if t.signs {
		return "sigv4"
	}
	return alternatives(t.placeholders())
}

func (f *faults) awsScope(path, service, region string) {
	switch {
	case service == "":
		f.add(Fault{path + ".service", "", "is required", "the name in signatures: s3, sts, dynamodb, bedrock"})
	case region == "":
		f.add(Fault{path + ".region", "", "is required", "for services without regions (iam, route53, cloudfront) us-east-1"})
	default:
		f.wrong(path+".service", service, aws.CheckScope(service, region))
	}
}

// signedHosts checks that each host that an entry signs for has a service and region, and
// that no line of the table is for a host that is never reached (MUST T8: what is signed
// for is configuration alone).
func (c *compiler) signedHosts(x *credential) {
	for i := range x.spec.Spec.Inject {
		in := &x.spec.Spec.Inject[i]
		if in.SigV4 == nil {
			continue
		}
		path := at("spec.inject", i) + ".sigv4.hosts"
		hosts := c.hostsOf(x, in)
		used := map[string]bool{}
		for _, h := range hosts {
			if line := in.SigV4.line(h); line != "" {
				used[line] = true
			} else if in.SigV4.Service == "" && len(in.SigV4.Hosts) > 0 {
				c.fault(x.index, Fault{path, h, "must have a line for each host of the destinations", "add it, or set service and region for all others"})
			}
		}
		for j, line := range in.SigV4.Hosts {
			if name, err := policy.ParseHostPattern(line.Host); err == nil && !used[name] {
				c.fault(x.index, Fault{at(path, j) + ".host", line.Host, "must be a host of the destinations that the entry is for", didYouMean(name, hosts)})
			}
		}
	}
}

func (c *compiler) hostsOf(x *credential, in *Inject) []string {
	var out []string
	for _, name := range x.spec.Spec.Destinations {
		if d := c.destinations[name]; d != nil && in.appliesTo(name) {
			out = append(out, d.out.Hosts...)
		}
	}
	return out
}

// line returns the pattern of the table that a host, or all hosts of a pattern, fall
// under: an exact one first.
func (s *SigV4) line(host string) string {
	wild := ""
	_, parent, _ := strings.Cut(host, ".")
	for _, h := range s.Hosts {
		name, err := policy.ParseHostPattern(h.Host)
		switch {
		case err != nil:
		case name == host:
			return name
		case name == "*."+parent:
			wild = name
		}
	}
	return wild
}
