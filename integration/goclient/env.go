// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// withLess runs a command in place of this one with less of what egret exec has set.
// KEEP lists the variables about proxies and trust that stay; "proxies" alone keeps
// all of them but those that lead to egret's trust files.
func withLess(_ context.Context, args []string) error {
	if len(args) < 3 || args[1] != "--" {
		return errors.New("usage: goclient env KEEP -- COMMAND [ARG...]")
	}
	path, err := exec.LookPath(args[2])
	if err != nil {
		return err
	}
	folder := filepath.Dir(os.Getenv("SSL_CERT_FILE"))
	keep := strings.Split(args[0], ",")
	var env []string
	for _, kv := range os.Environ() {
		name, value, _ := strings.Cut(kv, "=")
		switch {
		case args[0] == "proxies":
			if value = withoutTrust(name, value, folder); value == "" {
				continue
			}
		case ours(name, value, folder) && !slices.Contains(keep, name):
			continue
		}
		env = append(env, name+"="+value)
	}
	return syscall.Exec(path, args[2:], env)
}

// ours reports whether egret exec has set a variable.
func ours(name, value, folder string) bool {
	return strings.Contains(strings.ToLower(name), "proxy") || strings.Contains(value, folder)
}

// withoutTrust takes the trust files out of a value; Java's options are one by one.
func withoutTrust(name, value, folder string) string {
	if name != "JAVA_TOOL_OPTIONS" {
		if strings.Contains(value, folder) {
			return ""
		}
		return value
	}
	options := slices.DeleteFunc(strings.Fields(value), func(o string) bool { return strings.HasPrefix(o, "-Djavax.net.ssl.") })
	return strings.Join(options, " ")
}
