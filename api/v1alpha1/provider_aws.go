// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"strconv"
	"time"

	"github.com/egret-proxy/egret/credential/aws"
)

// AWSProvider gets keys that sign requests (inject: sigv4): exactly one member is set.
type AWSProvider struct {
	// AssumeRoleWithWebIdentity asks STS for a session of a role with the workload's JWT-SVID.
	AssumeRoleWithWebIdentity *AWSWebIdentity `json:"assumeRoleWithWebIdentity,omitempty"`
	// RolesAnywhere asks IAM Roles Anywhere for a session of a role with the workload's X.509-SVID.
	RolesAnywhere *AWSRolesAnywhere `json:"rolesAnywhere,omitempty"`
	// Static serves keys that egret holds, for stores that speak S3 and have no roles.
	Static *AWSStatic `json:"static,omitempty"`
}

// AWSWebIdentity asks for a session as the AWS STS API Reference has it.
type AWSWebIdentity struct {
	// RoleARN is the role. Its trust policy names the SPIFFE issuer, and should name the SPIFFE ID (the token's sub). Required.
	RoleARN string `json:"roleARN"`
	// Region is whose STS is asked. Either it or stsURL is required.
	Region string `json:"region,omitempty"`
	// STSURL is https, for STS elsewhere: FIPS, VPC endpoints, other partitions.
	STSURL string `json:"stsURL,omitempty"`
	// SessionName is what CloudTrail shows: a template that holds {workload}, the SPIFFE ID in characters that AWS takes (a hash with the end of the path, where it is too long). Default: {workload}.
	SessionName string `json:"sessionName,omitempty"`
	// Duration of the session, 15m to 12h. Default: an hour, which is AWS' own.
	Duration string `json:"duration,omitempty"`
	// Policy is a session policy in JSON: the session may do what the role and it allow. At most 2048 characters. Default: none.
	Policy string `json:"policy,omitempty"`
	// PolicyARNs are managed session policies, at most ten. Default: none.
	PolicyARNs []string `json:"policyARNs,omitempty"`
	// Audience of the JWT-SVID. Default: sts.amazonaws.com.
	Audience string `json:"audience,omitempty"`
	// Endpoint is how the host of STS is reached.
	Endpoint *Endpoint `json:"endpoint,omitempty"`
}

// AWSRolesAnywhere asks for a session as the IAM Roles Anywhere User Guide has it.
type AWSRolesAnywhere struct {
	// TrustAnchorARN is the trust anchor that holds the SPIFFE bundle. Required.
	TrustAnchorARN string `json:"trustAnchorARN"`
	// ProfileARN is the profile. Required.
	ProfileARN string `json:"profileARN"`
	// RoleARN is the role; its trust policy should name the SPIFFE ID (aws:PrincipalTag/x509SAN/URI). Required.
	RoleARN string `json:"roleARN"`
	// Region of Roles Anywhere. Default: that of the trust anchor.
	Region string `json:"region,omitempty"`
	// URL is https, for Roles Anywhere elsewhere: FIPS, VPC endpoints. Default: that of the region.
	URL string `json:"url,omitempty"`
	// Duration of the session, 15m to 12h. Default: that of the profile.
	Duration string `json:"duration,omitempty"`
	// SessionName is a template that may hold {workload}; the profile must accept session names. Default: the certificate's serial number.
	SessionName string `json:"sessionName,omitempty"`
	// Endpoint is how the host of Roles Anywhere is reached.
	Endpoint *Endpoint `json:"endpoint,omitempty"`
}

// AWSStatic says where keys are. They are followed when they change. egret's clock must be
// right to some minutes: unlike with sessions, whose issuers tell the time, nothing corrects it.
type AWSStatic struct {
	// AccessKeyID is written into requests and records. Required.
	AccessKeyID SecretSource `json:"accessKeyID"`
	// SecretAccessKey signs. Required.
	SecretAccessKey SecretSource `json:"secretAccessKey"`
	// SessionToken goes with keys that somebody else renews. Default: none.
	SessionToken *SecretSource `json:"sessionToken,omitempty"`
}

func (p *AWSProvider) check(f *faults, path string) {
	set := 0
	for _, is := range []bool{p.AssumeRoleWithWebIdentity != nil, p.RolesAnywhere != nil, p.Static != nil} {
		if is {
			set++
		}
	}
	switch {
	case set != 1:
		f.add(Fault{path, "", "must have exactly one member", "set assumeRoleWithWebIdentity, rolesAnywhere or static"})
	case p.AssumeRoleWithWebIdentity != nil:
		p.AssumeRoleWithWebIdentity.check(f, path+".assumeRoleWithWebIdentity")
	case p.RolesAnywhere != nil:
		p.RolesAnywhere.check(f, path+".rolesAnywhere")
	default:
		p.Static.check(f, path+".static")
	}
}

func (p *AWSWebIdentity) check(f *faults, path string) {
	f.wrong(path+".roleARN", p.RoleARN, aws.CheckRole(p.RoleARN))
	switch {
	case p.Region == "" && p.STSURL == "":
		f.add(Fault{path + ".region", "", "is required", "name the region whose STS is asked, or set stsURL"})
	case p.Region != "" && p.STSURL != "":
		f.bad(path+".region", p.Region, "must be absent with stsURL")
	case p.STSURL != "":
		f.wrong(path+".stsURL", p.STSURL, checkTokenURL(p.STSURL))
	default:
		f.wrong(path+".region", p.Region, aws.CheckRegion(p.Region))
	}
	f.awsSession(path, p.SessionName, p.Duration)
	f.wrong(path+".policy", "", aws.CheckSessionPolicy(p.Policy))
	if len(p.PolicyARNs) > 10 {
		f.bad(path+".policyARNs", strconv.Itoa(len(p.PolicyARNs)), "must be at most 10")
	}
	for i, arn := range p.PolicyARNs {
		f.wrong(at(path+".policyARNs", i), arn, aws.CheckPolicy(arn))
	}
	f.distinct(path+".policyARNs", p.PolicyARNs)
	f.optionalLine(path+".audience", p.Audience)
	f.endpoint(path+".endpoint", p.Endpoint)
}

func (p *AWSRolesAnywhere) check(f *faults, path string) {
	f.wrong(path+".trustAnchorARN", p.TrustAnchorARN, aws.CheckTrustAnchor(p.TrustAnchorARN))
	f.wrong(path+".profileARN", p.ProfileARN, aws.CheckProfile(p.ProfileARN))
	f.wrong(path+".roleARN", p.RoleARN, aws.CheckRole(p.RoleARN))
	if p.Region != "" {
		f.wrong(path+".region", p.Region, aws.CheckRegion(p.Region))
	}
	if p.URL != "" {
		f.wrong(path+".url", p.URL, checkTokenURL(p.URL))
	}
	f.awsSession(path, p.SessionName, p.Duration)
	f.endpoint(path+".endpoint", p.Endpoint)
}

func (f *faults) awsSession(path, name, duration string) {
	if name != "" {
		f.wrong(path+".sessionName", name, aws.CheckSessionName(name))
	}
	f.duration(path+".duration", duration, span{15 * time.Minute, 12 * time.Hour})
}

func (p *AWSStatic) check(f *faults, path string) {
	f.source(path+".accessKeyID", &p.AccessKeyID)
	f.source(path+".secretAccessKey", &p.SecretAccessKey)
	if p.SessionToken != nil {
		f.source(path+".sessionToken", p.SessionToken)
	}
}

func (p *AWSProvider) traits() traits {
	t := traits{signs: true, values: []string{}}
	switch {
	case p.AssumeRoleWithWebIdentity != nil:
		t.usesSVID = true
		if t.audience = p.AssumeRoleWithWebIdentity.Audience; t.audience == "" {
			t.audience = aws.DefaultAudience
		}
		t.assertion = t.audience
		t.resource = p.AssumeRoleWithWebIdentity.RoleARN
	case p.RolesAnywhere != nil:
		t.usesSVID, t.preview = true, true
		t.resource = p.RolesAnywhere.RoleARN
	default:
		t.shared = true
	}
	return t
}
