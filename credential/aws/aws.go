// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package aws gets AWS credentials and signs with them. WebIdentity asks STS with the
// workload's JWT-SVID, RolesAnywhere asks IAM Roles Anywhere with its X.509-SVID, and
// Static serves keys that egret holds, for stores that speak S3 and know no roles. All
// give the same values, and Signer puts them into requests: package sigv4 below knows
// how. It caches nothing and retries nothing but one call whose clock was wrong; the
// Cache of package credential does.
package aws

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/aws/sigv4"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/internal/secret"
)

// Names of the values of a token. clockAhead is by how many seconds AWS' clock is ahead
// of ours, where its answer showed that: the signer takes it into account.
const (
	accessKeyID     = "access_key_id"
	secretAccessKey = "secret_access_key"
	sessionToken    = "session_token"
	clockAhead      = "clock_ahead"
)

// token makes what all providers return. The access key id is no secret: AWS writes it
// into its own logs, by which both sides' records are joined.
func token(k sigv4.Keys, life, ahead time.Duration) (credential.Token, error) {
	if k.AccessKeyID == "" || k.SecretAccessKey.IsZero() {
		return credential.Token{}, issuer.NotMinted("answer has no keys")
	}
	if !keyID.MatchString(k.AccessKeyID) {
		return credential.Token{}, issuer.NotMinted("answer has an access key id that is none")
	}
	values := map[string]secret.Secret{
		accessKeyID:     secret.New(k.AccessKeyID),
		secretAccessKey: k.SecretAccessKey,
	}
	if !k.SessionToken.IsZero() {
		values[sessionToken] = k.SessionToken
	}
	if ahead != 0 {
		values[clockAhead] = secret.New(strconv.FormatInt(int64(ahead/time.Second), 10))
	}
	return credential.Token{Values: values, Lifetime: life, Fingerprint: k.AccessKeyID}, nil
}

// keyID is generous: stores that speak S3 let people choose.
var keyID = regexp.MustCompile(`^[\w.@:+=-]{1,128}$`)

// minSkew is the difference of clocks below which nothing is corrected: a Date has whole
// seconds, and the answer was on its way. AWS takes up to five minutes.
const minSkew = 30 * time.Second

// skew is what an answer tells of AWS' clock.
func skew(a *issuer.Answer, now time.Time) time.Duration {
	t, err := parseDate(a.Header.Get("Date"))
	if err != nil {
		return 0
	}
	d := t.Sub(now).Truncate(time.Second)
	if d.Abs() < minSkew || d.Abs() > 24*time.Hour { // more is no clock that runs wrong
		return 0
	}
	return d
}

// Patterns of what is written into configuration, or comes from AWS and is written into
// requests.
var (
	regionForm  = regexp.MustCompile(`^[a-z]{2}(-[a-z]+){1,3}-[0-9]{1,2}$`)
	roleForm    = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}$`)
	policyForm  = regexp.MustCompile(`^arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/[\w+=,.@/-]{1,512}$`)
	anchorForm  = regexp.MustCompile(`^arn:aws[a-z-]*:rolesanywhere:[a-z0-9-]+:[0-9]{12}:trust-anchor/[0-9a-f-]{36}$`)
	profileForm = regexp.MustCompile(`^arn:aws[a-z-]*:rolesanywhere:[a-z0-9-]+:[0-9]{12}:profile/[0-9a-f-]{36}$`)
)

// CheckRegion reports what is not the name of a region. Whether there is such a region is
// not known here.
func CheckRegion(s string) error {
	return form(regionForm, s, "must be a region such as eu-central-1")
}

// CheckRole reports what is not the ARN of an IAM role.
func CheckRole(s string) error {
	return form(roleForm, s, "must be the ARN of a role: arn:aws:iam::ACCOUNT:role/NAME")
}

// CheckPolicy reports what is not the ARN of a managed policy.
func CheckPolicy(s string) error {
	return form(policyForm, s, "must be the ARN of a policy: arn:aws:iam::ACCOUNT:policy/NAME")
}

// CheckTrustAnchor reports what is not the ARN of a trust anchor of Roles Anywhere.
func CheckTrustAnchor(s string) error {
	return form(anchorForm, s, "must be the ARN of a trust anchor: arn:aws:rolesanywhere:REGION:ACCOUNT:trust-anchor/UUID")
}

// CheckProfile reports what is not the ARN of a profile of Roles Anywhere.
func CheckProfile(s string) error {
	return form(profileForm, s, "must be the ARN of a profile: arn:aws:rolesanywhere:REGION:ACCOUNT:profile/UUID")
}

func form(re *regexp.Regexp, s, rule string) error {
	switch {
	case s == "":
		return errors.New("is required")
	case !re.MatchString(s):
		return errors.New(rule)
	}
	return nil
}

// CheckDuration reports what no role gives: 15 minutes to 12 hours.
func CheckDuration(d time.Duration) error {
	if d < 15*time.Minute || d > 12*time.Hour {
		return fmt.Errorf("must be from 15m to 12h")
	}
	return nil
}

// host returns the name of a regional endpoint.
func host(service, region string) string {
	suffix := "amazonaws.com"
	if strings.HasPrefix(region, "cn-") {
		suffix += ".cn"
	}
	return service + "." + region + "." + suffix
}

// regionOf is what an ARN says.
func regionOf(arn string) string {
	f := strings.SplitN(arn, ":", 5)
	if len(f) < 5 {
		return ""
	}
	return f[3]
}
