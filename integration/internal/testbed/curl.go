// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package testbed

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Curl gets a URL as any program does that knows egret's address and CA and no credential.
// It returns the status and the body.
func Curl(t testing.TB, proxy, ca, url string) (status, body string) {
	t.Helper()
	cmd := exec.Command("curl", "-sS", "--max-time", "20", "-w", "\n%{http_code}", url)
	cmd.Env = []string{"HTTPS_PROXY=http://" + proxy, "CURL_CA_BUNDLE=" + ca, "PATH=" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("curl: %v: %s", err, out)
	}
	i := strings.LastIndexByte(string(out), '\n')
	return string(out[i+1:]), string(out[:max(i, 0)])
}
