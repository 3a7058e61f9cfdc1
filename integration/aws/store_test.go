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

// destination is what the templates know of one.
type destination struct {
	Host, Dial, Provider, Service string

	Operation, Operations string // how operations are read, and which are granted; "" for all
	Refused               string // the errors that refuse keys
}

const staticProvider = "{static: {accessKeyID: {file: secrets/key-id}, secretAccessKey: {file: secrets/key}}}"

// store starts versitygw, which checks every signature, and egret with its root key.
func store(t *testing.T) *egret {
	t.Helper()
	w := newWorld(t)
	address := w.versitygw(t)
	w.keys(t, rootKey, rootSecret)
	w.values["Destinations"] = map[string]destination{"store": {Host: storeHost, Dial: address, Provider: staticProvider, Service: "s3"}}
	w.render(t, "policy.yaml")
	return w.start(t)
}

func (w *world) keys(t *testing.T, id, key string) {
	t.Helper()
	w.write(t, "secrets/key-id", []byte(id+"\n"))
	w.write(t, "secrets/key", []byte(key+"\n"))
	w.secrets = append(w.secrets, key)
}

func (w *world) versitygw(t *testing.T, more ...string) (address string) {
	t.Helper()
	address = freePort(t)
	cert, key := w.pair(t, storeHost)
	for _, dir := range []string{w.file("objects"), w.file("objects/" + bucket)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	argv := []string{os.Getenv(vgwVar), "--port", address, "--access", rootKey, "--secret", rootSecret, "--region", region, "--cert", cert, "--key", key}
	w.serve(t, address, nil, append(append(argv, more...), "posix", w.file("objects"))...)
	return address
}

// Every program that has only placeholder keys does what S3 clients do, odd keys and
// multipart uploads included.
func TestBoto3(t *testing.T) {
	e := store(t)
	for version, python := range pythons(t) {
		t.Run(version, func(t *testing.T) {
			code, out := e.run(t, 3*time.Minute, python, "testdata/objects.py", "https://"+storeHost, bucket)
			if code != 0 || !strings.HasSuffix(out, "all of it worked\n") {
				t.Errorf("exit %d\n%s", code, out)
			}
		})
	}
}

// The store refuses the same programs without egret's keys: it does check.
func TestTheStoreChecksSignatures(t *testing.T) {
	w := newWorld(t)
	address := w.versitygw(t)
	w.keys(t, rootKey, "another-secret-than-the-stores")
	w.values["Destinations"] = map[string]destination{"store": {Host: storeHost, Dial: address, Provider: staticProvider, Service: "s3"}}
	w.render(t, "policy.yaml")
	e := w.start(t)
	for version, python := range pythons(t) {
		code, out := e.run(t, time.Minute, python, "testdata/objects.py", "https://"+storeHost, bucket)
		if code == 0 || !strings.Contains(out, "SignatureDoesNotMatch") {
			t.Errorf("boto3 %s: exit %d\n%s", version, code, out)
		}
	}
}

func TestAWSCLI(t *testing.T) {
	aws := look("aws")
	if aws == "" {
		t.Skip("the AWS CLI is not installed")
	}
	e := store(t)
	s3 := []string{aws, "--endpoint-url", "https://" + storeHost, "s3"}
	file := e.world.file("file")
	e.world.write(t, "file", []byte(strings.Repeat("0123456789abcdef", 1<<20)))
	for _, args := range [][]string{
		{"cp", file, "s3://" + bucket + "/a file (1)+.bin"},
		{"cp", "s3://" + bucket + "/a file (1)+.bin", file + ".back"},
		{"ls", "s3://" + bucket + "/"},
		{"rm", "s3://" + bucket + "/a file (1)+.bin"},
	} {
		if code, out := e.run(t, 2*time.Minute, append(s3, args...)...); code != 0 {
			t.Fatalf("aws s3 %s: exit %d\n%s", strings.Join(args, " "), code, out)
		}
	}
	a, err1 := os.ReadFile(file)
	b, err2 := os.ReadFile(file + ".back")
	if err1 != nil || err2 != nil || string(a) != string(b) {
		t.Errorf("what came back is another file: %v %v", err1, err2)
	}
	if code, out := e.run(t, time.Minute, aws, "--endpoint-url", "https://"+storeHost, "--no-sign-request", "s3", "ls", "s3://"+bucket+"/"); code != 0 {
		t.Errorf("unsigned: exit %d\n%s", code, out)
	}
	if code, out := e.run(t, time.Minute, aws, "--endpoint-url", "https://"+storeHost, "--region", "eu-west-1", "s3", "ls", "s3://"+bucket+"/"); code == 0 || !strings.Contains(out, "(egret/target/caller_signature)") {
		t.Errorf("signed for another region: exit %d\n%s", code, out)
	}
}
