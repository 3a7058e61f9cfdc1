// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration

package aws

import (
	"os"
	"strings"
	"testing"
	"time"
)

// granting runs egret with keys of the destination, of which only these operations are granted.
func (w *world) granting(t *testing.T, d destination) *egret {
	t.Helper()
	d.Provider = staticProvider
	w.values["Destinations"] = map[string]destination{"granted": d}
	w.render(t, "policy.yaml")
	return w.start(t)
}

func (w *world) s3Granting(t *testing.T, operations string) *egret {
	t.Helper()
	address := w.versitygw(t)
	w.keys(t, rootKey, rootSecret)
	return w.granting(t, destination{Host: storeHost, Dial: address, Service: "s3", Operation: "s3", Operations: operations})
}

const readAndWrite = "s3:GetObject, s3:PutObject, s3:ListBucket"

// worked runs a script with every boto3 there is.
func (e *egret) worked(t *testing.T, argv ...string) {
	t.Helper()
	for version, python := range pythons(t) {
		code, out := e.run(t, 2*time.Minute, append([]string{python}, argv...)...)
		if code != 0 || !strings.HasSuffix(out, "all of it worked\n") {
			t.Errorf("boto3 %s: exit %d\n%s", version, code, out)
		}
	}
}

// What a rule names works, uploads in parts included; all else is refused on the same
// connections, and the client sees by whom and why.
func TestMUST_H15_OperationsOfS3(t *testing.T) {
	e := newWorld(t).s3Granting(t, readAndWrite)
	e.worked(t, "testdata/granted.py", "https://"+storeHost, bucket)
}

// The same rules with nothing but listing: no boto3 can write or read.
func TestOperationsThatAreNotGranted(t *testing.T) {
	e := newWorld(t).s3Granting(t, "s3:ListBucket")
	for version, python := range pythons(t) {
		code, out := e.run(t, time.Minute, python, "testdata/granted.py", "https://"+storeHost, bucket)
		if code == 0 || !strings.Contains(out, "An error occurred (egret/policy/operation_not_allowed) when calling the PutObject operation: the policy does not allow this operation") {
			t.Errorf("boto3 %s: exit %d\n%s", version, code, out)
		}
	}
}

func TestMUST_H15_OperationsWithTheAWSCLI(t *testing.T) {
	aws := look("aws")
	if aws == "" {
		t.Skip("the AWS CLI is not installed")
	}
	e := newWorld(t).s3Granting(t, readAndWrite)
	file, key := e.world.file("file"), "s3://"+bucket+"/granted.bin"
	e.world.write(t, "file", []byte(strings.Repeat("0123456789abcdef", 1<<20)))
	s3 := []string{aws, "--endpoint-url", "https://" + storeHost, "s3"}
	for _, x := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"cp", file, key}, 0, "upload:"},
		{[]string{"ls", "s3://" + bucket + "/"}, 0, "granted.bin"},
		{[]string{"rm", key}, 1, "delete failed"},
		{[]string{"mv", key, file + ".moved"}, 1, "move failed"}, // read, and not deleted
		{[]string{"cp", key, file + ".back"}, 0, "download:"},
	} {
		code, out := e.run(t, 2*time.Minute, append(s3, x.args...)...)
		if code != x.code || !strings.Contains(out, x.says) {
			t.Errorf("aws s3 %s: exit %d\n%s", strings.Join(x.args, " "), code, out)
		}
	}
	e.recorded(t, `"reason":"operation_not_allowed"`, `"operation":"s3:DeleteObject"`)
}

// recorded looks for a record that says all of it.
func (e *egret) recorded(t *testing.T, says ...string) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		text, _ := os.ReadFile(e.world.file("audit.jsonl"))
	lines:
		for line := range strings.Lines(string(text)) {
			for _, s := range says {
				if !strings.Contains(line, s) {
					continue lines
				}
			}
			return
		}
		if time.Now().After(end) {
			t.Fatalf("no record says %q", says)
		}
	}
}

// DynamoDB names its operation in X-Amz-Target, behind POST /.
func TestMUST_H15_OperationsOfDynamoDB(t *testing.T) {
	w := newWorld(t)
	address, id, key := w.moto(t, dynamoHost)
	w.keys(t, id, key)
	e := w.granting(t, destination{Host: dynamoHost, Dial: address, Service: "dynamodb", Operation: "aws", Operations: "dynamodb:PutItem, dynamodb:GetItem"})
	e.worked(t, "testdata/table.py")
}

// Calls that would hand out keys are refused although the rule names them, before and
// after others on the same connection.
func TestMUST_H11_STSHandsOutNoKeys(t *testing.T) {
	w := newWorld(t)
	address, id, key := w.moto(t, awsSTSHost)
	w.keys(t, id, key)
	e := w.granting(t, destination{Host: awsSTSHost, Dial: address, Service: "sts", Operation: "aws", Operations: "sts:*"})
	e.worked(t, "testdata/whoami.py")
	e.recorded(t, `"reason":"minting_not_allowed"`, `"operation":"sts:AssumeRole"`)
}
