// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration

package aws

import (
	"strings"
	"testing"
	"time"
)

// moto starts a moto server that checks signatures and permissions, and returns the keys
// of its one user. It serves one host of AWS.
func (w *world) moto(t *testing.T, as string) (address, id, key string) {
	t.Helper()
	server := look("moto_server")
	if server == "" {
		t.Skip("moto_server is not installed")
	}
	address = freePort(t)
	cert, private := w.pair(t, as)
	host, port, _ := strings.Cut(address, ":")
	w.serve(t, address, nil, server, "-H", host, "-p", port, "-s", "-c", cert, "-k", private)
	python := sibling(server, "python3")
	code, out := runProgram(t, time.Minute, []string{"AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=x", "AWS_DEFAULT_REGION=" + region}, python, "testdata/user.py", "https://"+address)
	f := strings.Fields(out)
	if code != 0 || len(f) < 2 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	return address, f[len(f)-2], f[len(f)-1]
}

// A service that is not S3: its paths are encoded twice, and its clients do not tell the
// hash of the body.
func TestDynamoDB(t *testing.T) {
	w := newWorld(t)
	address, id, key := w.moto(t, dynamoHost)
	w.keys(t, id, key)
	w.values["Destinations"] = map[string]destination{"dynamo": {Host: dynamoHost, Dial: address, Provider: staticProvider, Service: "dynamodb"}}
	w.render(t, "policy.yaml")
	e := w.start(t)
	for version, python := range pythons(t) {
		code, out := e.run(t, time.Minute, python, "testdata/items.py", strings.ReplaceAll(version, ".", "-"))
		if code != 0 || !strings.HasSuffix(out, "all of it worked\n") {
			t.Errorf("boto3 %s: exit %d\n%s", version, code, out)
		}
	}
}

// moto refuses the same clients without the right key: it does check.
func TestMotoChecksSignatures(t *testing.T) {
	w := newWorld(t)
	address, id, _ := w.moto(t, dynamoHost)
	w.keys(t, id, "another-secret-than-motos")
	w.values["Destinations"] = map[string]destination{"dynamo": {Host: dynamoHost, Dial: address, Provider: staticProvider, Service: "dynamodb"}}
	w.render(t, "policy.yaml")
	e := w.start(t)
	for version, python := range pythons(t) {
		if code, out := e.run(t, time.Minute, python, "testdata/items.py", "x"); code == 0 || !strings.Contains(out, "signature") {
			t.Errorf("boto3 %s: exit %d\n%s", version, code, out)
		}
	}
}
