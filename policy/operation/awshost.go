// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package operation

import (
	_ "embed"
	"strings"
)

// awsServices lists what can be read; see the head of the file.
//
//go:embed awsservices.txt
var awsServices string

const s3Service = "s3"

// service is a service of AWS at one endpoint. The zero service is none that can be read.
type service struct {
	prefix    string // of IAM actions
	protocols []string
	targets   []string
}

// awsZones end the names of AWS's endpoints.
//
//nolint:gochecknoglobals // a constant table
var awsZones = []string{".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".api.amazonwebservices.com.cn", ".c2s.ic.gov", ".sc2s.sgov.gov"}

// AWSHost reports whether a canonical host is an endpoint of AWS.
func AWSHost(host string) bool { _, ok := awsLabels(host); return ok }

// AWSEndpoint returns the endpoint's name of the service at a host of AWS, such as "sts",
// "api.ecr" or "runtime.sagemaker", whatever its region and kind (FIPS, dual stack, VPC
// endpoint); "" where the host is none of AWS. Of labels that precede the service's own
// (a bucket, an account, an API) some may be part of the name.
func AWSEndpoint(host string) string {
	labels, ok := awsLabels(host)
	if !ok {
		return ""
	}
	return strings.Join(labels, ".")
}

// awsLabels returns what of a host's name stands for the service.
func awsLabels(host string) ([]string, bool) {
	for _, zone := range awsZones {
		name, ok := strings.CutSuffix(host, zone)
		if !ok || name == "" {
			continue
		}
		labels := strings.Split(name, ".")
		for len(labels) > 1 && decoration(labels[len(labels)-1]) {
			labels = labels[:len(labels)-1]
		}
		last := len(labels) - 1
		labels[last] = strings.TrimSuffix(labels[last], "-fips")
		if base, region, ok := strings.Cut(labels[last], "-"); ok && isRegion(region) {
			labels[last] = base // s3-us-west-2
		}
		return labels, true
	}
	return nil, false
}

// decoration reports labels that say where and how, and not what.
func decoration(l string) bool { return l == "dualstack" || l == "vpce" || isRegion(l) }

// isRegion reports names like us-east-1, us-gov-west-1 and ap-southeast-1a.
func isRegion(l string) bool {
	parts := strings.Split(l, "-")
	if len(parts) < 3 || len(parts[0]) != 2 {
		return false
	}
	for _, p := range parts[:len(parts)-1] {
		if strings.Trim(p, "abcdefghijklmnopqrstuvwxyz") != "" {
			return false
		}
	}
	last := strings.TrimRight(parts[len(parts)-1], "abcdefghijklmnopqrstuvwxyz")
	return last != "" && strings.Trim(last, "0123456789") == ""
}

// serviceAt returns the service at a host, and for S3 whether the host names a bucket.
func serviceAt(host string) (service, s3Place) {
	labels, ok := awsLabels(host)
	if !ok {
		return service{}, s3Place{}
	}
	switch labels[len(labels)-1] {
	case "s3", "s3-accelerate", "s3-external-1":
		return service{prefix: s3Service}, s3Place{bucketInHost: len(labels) > 1}
	}
	for i := range labels { // the longest name first
		if s := serviceNamed(strings.Join(labels[i:], ".")); s.prefix != "" {
			return s, s3Place{}
		}
	}
	return service{}, s3Place{}
}

// serviceNamed finds an endpoint in the list.
func serviceNamed(endpoint string) service {
	for line := range strings.Lines(awsServices) {
		if !strings.HasPrefix(line, endpoint+" ") {
			continue
		}
		f := strings.Fields(line)
		return service{prefix: f[1], protocols: strings.Split(f[2], ","), targets: strings.Split(f[3], ",")}
	}
	return service{}
}
