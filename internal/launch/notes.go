// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Notes says what a program is known to ignore of the environment that Environ makes,
// one sentence each; empty for most. It may run `node --version`, for two seconds at
// most. It is a help for people and no control: a program that is not known here may
// go around egret too.
func Notes(ctx context.Context, program string, env Env) []string {
	path, err := exec.LookPath(program)
	if err != nil {
		return nil
	}
	names := runtimes(program, path)
	var notes []string
	if slices.Contains(names, "node") || slices.Contains(names, "nodejs") {
		notes = append(notes, nodeNote(nodeVersion(ctx, program, path))...)
	}
	if slices.Contains(names, "wget") && env.hasWgetrc() {
		notes = append(notes, `wget reads your own wgetrc and no variable for its roots: add --ca-certificate="$SSL_CERT_FILE"`)
	}
	if slices.Contains(names, "php") {
		notes = append(notes, "PHP's streams (file_get_contents) ignore proxy variables; its curl functions do not. Use curl, or have the kernel lead streams to egret: egret redirect --help")
	}
	if slices.Contains(names, "java") && env.Proxy.Scheme == "https" {
		notes = append(notes, "Java cannot speak TLS to a proxy: give it an http:// listener on loopback")
	}
	return notes
}

// runtimes names what a program is or is run by: itself, the file behind its links,
// and the interpreter of its first line (npm and npx are scripts for node).
func runtimes(program, path string) []string {
	names := []string{filepath.Base(program)}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		names = append(names, filepath.Base(real))
	}
	return append(names, interpreter(path)...)
}

// interpreter returns the base names of the words in a script's first line.
func interpreter(path string) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	line, _ := bufio.NewReader(io.LimitReader(f, 256)).ReadString('\n')
	rest, ok := strings.CutPrefix(line, "#!")
	if !ok {
		return nil
	}
	var names []string
	for word := range strings.FieldsSeq(rest) {
		names = append(names, filepath.Base(word))
	}
	return names
}

// nodeVersion asks the program itself if it is node, else the node that its script
// would find; "" when that says nothing.
func nodeVersion(ctx context.Context, program, path string) string {
	if base := filepath.Base(program); base != "node" && base != "nodejs" {
		path = "node"
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "NODE_OPTIONS=") }) // it may name code to load
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// nodeNote knows since when Node reads proxy variables in http, https and fetch:
// 22.21.0 and 24.5.0 (nodejs.org/api/cli.html, NODE_USE_ENV_PROXY). Never in 23.
func nodeNote(version string) []string {
	if version == "" || readsProxy(version) {
		return nil
	}
	return []string{"node " + version + " ignores proxy variables and would go around egret: use node 22.21, 24.5 or later, or have the kernel lead it to egret: egret redirect --help"}
}

func readsProxy(version string) bool {
	parts := strings.Split(strings.TrimPrefix(version, "v"), ".")
	if len(parts) < 2 {
		return true // not node's way to write versions: say nothing
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	if err1 != nil || err2 != nil {
		return true
	}
	switch major {
	case 22:
		return minor >= 21
	case 24:
		return minor >= 5
	}
	return major >= 25
}
