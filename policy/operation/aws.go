// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"errors"
	"slices"
	"strings"
)

// readAWS returns the IAM action of a call of AWS: sts:AssumeRole, dynamodb:GetItem,
// s3:GetObject. The service is that of the host. Services that speak REST have no result,
// S3 apart: their actions would need a table of every path of every one.
func readAWS(r *Request) ([]string, error) {
	s, place := serviceAt(r.Host)
	if s.prefix == s3Service {
		place.path = r.Path
		return readS3(r, place)
	}
	if len(s.protocols) == 0 {
		return nil, errors.New("the host is not of a service of AWS whose operations can be read")
	}
	name, err := awsName(r, s)
	if err != nil {
		return nil, err
	}
	if !nameOf(name, "") {
		return nil, errors.New("the operation's name has bytes other than letters and digits")
	}
	return one(s.prefix + ":" + name)
}

// awsName tells the three protocols apart as the services do: by a header that only one
// of them has. A request with the marks of two has no result.
func awsName(r *Request, s service) (string, error) {
	smithy, err1 := only(r.Header, "Smithy-Protocol")
	target, err2 := only(r.Header, "X-Amz-Target")
	if err := errors.Join(err1, err2); err != nil {
		return "", err
	}
	query, err := parsePairs(r.Query)
	if err != nil {
		return "", err
	}
	if smithy != "" || target != "" {
		if err := absent(query, "Action"); err != nil || smithy != "" && target != "" || r.Method != "POST" {
			return "", errors.New("the request has the marks of two protocols")
		}
	}
	switch {
	case smithy != "":
		return awsCBOR(r, s, smithy)
	case target != "":
		return awsJSON(r, s, target)
	}
	return awsQuery(r, s, query)
}

func (s service) speaks(protocol string) error {
	if !slices.Contains(s.protocols, protocol) {
		return errors.New("the service does not speak the protocol of the request")
	}
	return nil
}

// awsCBOR reads /service/NAME/operation/NAME (Smithy RPC v2).
func awsCBOR(r *Request, s service, smithy string) (string, error) {
	if err := s.speaks("cbor"); err != nil {
		return "", err
	}
	if _, err := wantType(r.Header, typeCBOR); err != nil {
		return "", err
	}
	parts := strings.Split(r.Path, "/")
	if smithy != "rpc-v2-cbor" || len(parts) != 5 || parts[1] != "service" || parts[3] != "operation" {
		return "", errors.New("the path is not one of Smithy RPC v2")
	}
	if !slices.Contains(s.targets, parts[2]) {
		return "", errTarget
	}
	return parts[4], nil
}

var errTarget = errors.New("the target is not one of the service at this host")

// awsJSON reads X-Amz-Target: PREFIX.NAME.
func awsJSON(r *Request, s service, target string) (string, error) {
	if err := s.speaks("json"); err != nil {
		return "", err
	}
	if _, err := wantType(r.Header, "application/x-amz-json-1.0", "application/x-amz-json-1.1"); err != nil {
		return "", err
	}
	if r.Path != "/" {
		return "", errPath
	}
	i := strings.LastIndexByte(target, '.')
	if i < 0 || !slices.Contains(s.targets, target[:i]) {
		return "", errTarget
	}
	return target[i+1:], nil
}

var errPath = errors.New("the path is not one at which the service reads operations")

// awsQuery reads Action, which stands once, in the query or in the form.
func awsQuery(r *Request, s service, query []pair) (string, error) {
	if err := s.speaks("query"); err != nil {
		return "", err
	}
	if r.Path != "/" && s.prefix != "sqs" { // a queue has a path
		return "", errPath
	}
	form, err := awsForm(r)
	if err != nil {
		return "", err
	}
	name, found, err := field(append(slices.Clone(query), form...), "Action")
	if err == nil && !found {
		err = errors.New("the request has no Action")
	}
	return name, err
}

func awsForm(r *Request) ([]pair, error) {
	switch {
	case bodiless(r.Method):
		return nil, noBody(r)
	case r.Method != "POST":
		return nil, errors.New("the method is not one of the query protocol")
	case len(r.Body) == 0:
		return nil, nil
	}
	if _, err := wantType(r.Header, typeForm); err != nil {
		return nil, err
	}
	return parsePairs(string(r.Body))
}
