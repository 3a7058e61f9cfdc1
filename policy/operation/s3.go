// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"errors"
	"slices"
	"strings"
)

// s3Place says where a request's bucket stands.
type s3Place struct {
	bucketInHost bool
	path         string
}

// level is what a request of S3 is about.
type level string

const (
	onService level = "service"
	onBucket  level = "bucket"
	onObject  level = "object"
)

// s3Call is a row of the table: what a method does at a level, with the subresource that
// stands in the query.
type s3Call struct {
	method string
	level  level
	sub    string // parameter in the query; "" for none
}

// s3Actions are the IAM actions of S3's REST API. What is not here has no result. See
// "Actions, resources, and condition keys for Amazon S3", and the API reference for which
// parameter makes which operation.
//
//nolint:gochecknoglobals // a constant table
var s3Actions = map[s3Call][]string{
	{"GET", onService, ""}: {"ListAllMyBuckets"},

	{"GET", onBucket, ""}:                  {"ListBucket"},
	{"HEAD", onBucket, ""}:                 {"ListBucket"},
	{"PUT", onBucket, ""}:                  {"CreateBucket"},
	{"DELETE", onBucket, ""}:               {"DeleteBucket"},
	{"GET", onBucket, "versions"}:          {"ListBucketVersions"},
	{"GET", onBucket, "uploads"}:           {"ListBucketMultipartUploads"},
	{"GET", onBucket, "location"}:          {"GetBucketLocation"},
	{"GET", onBucket, "acl"}:               {"GetBucketAcl"},
	{"PUT", onBucket, "acl"}:               {"PutBucketAcl"},
	{"GET", onBucket, "policy"}:            {"GetBucketPolicy"},
	{"PUT", onBucket, "policy"}:            {"PutBucketPolicy"},
	{"DELETE", onBucket, "policy"}:         {"DeleteBucketPolicy"},
	{"GET", onBucket, "versioning"}:        {"GetBucketVersioning"},
	{"PUT", onBucket, "versioning"}:        {"PutBucketVersioning"},
	{"GET", onBucket, "tagging"}:           {"GetBucketTagging"},
	{"PUT", onBucket, "tagging"}:           {"PutBucketTagging"},
	{"DELETE", onBucket, "tagging"}:        {"PutBucketTagging"},
	{"GET", onBucket, "lifecycle"}:         {"GetLifecycleConfiguration"},
	{"PUT", onBucket, "lifecycle"}:         {"PutLifecycleConfiguration"},
	{"DELETE", onBucket, "lifecycle"}:      {"PutLifecycleConfiguration"},
	{"GET", onBucket, "cors"}:              {"GetBucketCORS"},
	{"PUT", onBucket, "cors"}:              {"PutBucketCORS"},
	{"DELETE", onBucket, "cors"}:           {"PutBucketCORS"},
	{"GET", onBucket, "encryption"}:        {"GetEncryptionConfiguration"},
	{"PUT", onBucket, "encryption"}:        {"PutEncryptionConfiguration"},
	{"DELETE", onBucket, "encryption"}:     {"PutEncryptionConfiguration"},
	{"GET", onBucket, "notification"}:      {"GetBucketNotification"},
	{"PUT", onBucket, "notification"}:      {"PutBucketNotification"},
	{"GET", onBucket, "object-lock"}:       {"GetBucketObjectLockConfiguration"},
	{"PUT", onBucket, "object-lock"}:       {"PutBucketObjectLockConfiguration"},
	{"GET", onBucket, "publicAccessBlock"}: {"GetBucketPublicAccessBlock"},
	{"PUT", onBucket, "publicAccessBlock"}: {"PutBucketPublicAccessBlock"},
	{"GET", onBucket, "ownershipControls"}: {"GetBucketOwnershipControls"},
	{"PUT", onBucket, "ownershipControls"}: {"PutBucketOwnershipControls"},
	{"GET", onBucket, "session"}:           {"CreateSession"},
	{"POST", onBucket, "delete"}:           {"DeleteObject", "DeleteObjectVersion"}, // the versions stand in the body

	{"GET", onObject, ""}:            {"GetObject"},
	{"HEAD", onObject, ""}:           {"GetObject"},
	{"PUT", onObject, ""}:            {"PutObject"},
	{"DELETE", onObject, ""}:         {"DeleteObject"},
	{"POST", onObject, "uploads"}:    {"PutObject"},
	{"PUT", onObject, "uploadId"}:    {"PutObject"},
	{"POST", onObject, "uploadId"}:   {"PutObject"},
	{"GET", onObject, "uploadId"}:    {"ListMultipartUploadParts"},
	{"DELETE", onObject, "uploadId"}: {"AbortMultipartUpload"},
	{"GET", onObject, "acl"}:         {"GetObjectAcl"},
	{"PUT", onObject, "acl"}:         {"PutObjectAcl"},
	{"GET", onObject, "tagging"}:     {"GetObjectTagging"},
	{"PUT", onObject, "tagging"}:     {"PutObjectTagging"},
	{"DELETE", onObject, "tagging"}:  {"DeleteObjectTagging"},
	{"GET", onObject, "attributes"}:  {"GetObject", "GetObjectAttributes"},
	{"GET", onObject, "retention"}:   {"GetObjectRetention"},
	{"PUT", onObject, "retention"}:   {"PutObjectRetention"},
	{"GET", onObject, "legal-hold"}:  {"GetObjectLegalHold"},
	{"PUT", onObject, "legal-hold"}:  {"PutObjectLegalHold"},
	{"POST", onObject, "restore"}:    {"RestoreObject"},
	{"POST", onObject, "select"}:     {"GetObject"},
}

// s3Plain are parameters that do not choose the operation.
//
//nolint:gochecknoglobals // a constant table
var s3Plain = []string{
	"prefix", "delimiter", "list-type", "max-keys", "marker", "continuation-token", "start-after", "encoding-type", "fetch-owner",
	"key-marker", "version-id-marker", "upload-id-marker", "max-uploads", "part-number-marker", "max-parts", "max-buckets", "bucket-region",
	"partNumber", "versionId", "select-type", "x-id",
	"response-content-type", "response-content-language", "response-expires", "response-cache-control",
	"response-content-disposition", "response-content-encoding",
}

// s3Also are headers of a PUT that make it do a second thing.
//
//nolint:gochecknoglobals // a constant table
var s3Also = map[string]string{
	"x-amz-copy-source":                   "GetObject",
	"x-amz-tagging":                       "PutObjectTagging",
	"x-amz-acl":                           "PutObjectAcl",
	"x-amz-object-lock-mode":              "PutObjectRetention",
	"x-amz-object-lock-retain-until-date": "PutObjectRetention",
	"x-amz-object-lock-legal-hold":        "PutObjectLegalHold",
	"x-amz-bypass-governance-retention":   "BypassGovernanceRetention",
}

// readS3 returns the IAM actions of a REST call of S3. A copy is a GetObject, too, and a
// PUT with an ACL a PutObjectAcl.
func readS3(r *Request, place s3Place) ([]string, error) {
	call := s3Call{method: r.Method, level: place.level()}
	if bucket, _, _ := strings.Cut(r.Path[min(1, len(r.Path)):], "/"); !place.bucketInHost && strings.Contains(bucket, "%") {
		return nil, errors.New("the bucket's name holds an escape")
	}
	versioned, err := call.readQuery(r.Query)
	if err != nil {
		return nil, err
	}
	actions := s3Actions[call]
	if len(actions) == 0 {
		return nil, errors.New("the request is none of the operations of S3 that are known here")
	}
	var out []string
	for _, a := range actions {
		if versioned {
			a = ofVersion(a)
		}
		out = append(out, s3Service+":"+a)
	}
	return append(out, s3Extra(r, call)...), nil
}

func (p s3Place) level() level {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(p.path, "/"), "/")
	if p.bucketInHost {
		bucket, key = "x", strings.TrimPrefix(p.path, "/")
	}
	switch {
	case bucket == "":
		return onService
	case key == "":
		return onBucket
	}
	return onObject
}

// readQuery finds the one subresource. Of two, or with a parameter that may be one, it is
// not known which the server goes by.
func (c *s3Call) readQuery(raw string) (versioned bool, err error) {
	query, err := parsePairs(raw)
	if err != nil {
		return false, err
	}
	seen := map[string]bool{}
	for _, p := range query {
		if seen[folded(p.name)] {
			return false, errors.New("a parameter stands twice")
		}
		seen[folded(p.name)] = true
		switch {
		case slices.Contains(s3Plain, p.name):
			versioned = versioned || p.name == "versionId"
		case c.sub != "":
			return false, errors.New("the query names two subresources")
		default:
			c.sub = p.name
		}
	}
	return versioned, nil
}

// ofVersion is the action on a version of an object, where S3 has one of its own.
func ofVersion(action string) string {
	switch action {
	case "GetObject", "DeleteObject", "GetObjectAcl", "PutObjectAcl", "GetObjectAttributes",
		"GetObjectTagging", "PutObjectTagging", "DeleteObjectTagging":
		return strings.Replace(action, "Object", "ObjectVersion", 1)
	}
	return action
}

// s3Extra returns what the headers ask for besides.
func s3Extra(r *Request, call s3Call) []string {
	var out []string
	for name, values := range r.Header {
		plain := strings.ReplaceAll(strings.ToLower(name), "_", "-")
		action := s3Also[plain]
		if action == "GetObject" && strings.Contains(strings.ToLower(strings.Join(values, "")), "versionid") {
			action = ofVersion(action)
		}
		if strings.HasPrefix(plain, "x-amz-grant-") {
			action = "PutObjectAcl"
		}
		if action == "PutObjectAcl" && call.level == onBucket {
			action = "PutBucketAcl"
		}
		if action != "" {
			out = append(out, s3Service+":"+action)
		}
	}
	return out
}
