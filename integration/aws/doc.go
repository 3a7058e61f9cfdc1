// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package aws holds egret's SigV4 to servers that check signatures for real, with the
// clients that people use: versitygw (S3, IAM and STS) and moto (DynamoDB), boto3 and the
// AWS CLI. `go test -tags integration ./integration/aws`, as root: the tests run in a
// network namespace of their own, since versitygw's STS fetches keys from public
// addresses only. What is not installed is skipped and said. versitygw is built by
// integration/build/versitygw.sh where it is missing.
package aws
