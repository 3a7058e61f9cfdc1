// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package cri

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// node is a machine of its own in everything but its kernel: with its first process go all
// others, its mounts and its networks. Its /run is its own.
type node struct {
	t     *testing.T
	dir   string
	first int // pid, as this machine has it
}

// firstScript is the first process. It adopts what others leave, and ends with the test.
const firstScript = `set -e
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs -o mode=755 cni /var/lib/cni
mkdir -p /run/lock /run/netns
for f in hosts resolv.conf nsswitch.conf; do mount --bind "$1/etc/$f" "$(readlink -f /etc/$f)"; done
ip link set lo up
sysctl -qw net.ipv4.ip_forward=1
echo up
cat`

// cniState is where CNI's library keeps what it has done.
const cniState = "/var/lib/cni"

func newNode(t *testing.T) *node {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to make namespaces")
	}
	dir, err := os.MkdirTemp("", prefix())
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, dir: dir}
	t.Cleanup(n.clean)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if os.Mkdir(cniState, 0o755) == nil { // what is mounted there is the node's
		t.Cleanup(func() { _ = os.Remove(cniState) })
	}
	n.write("etc/hosts", fmt.Sprintf("127.0.0.1 localhost\n%s %s\n", saasAddress, saasHost))
	n.write("etc/resolv.conf", "nameserver "+outAddress+"\noptions timeout:1 attempts:1\n")
	n.write("etc/nsswitch.conf", "hosts: files\n")
	n.start()
	return n
}

func (n *node) start() {
	n.t.Helper()
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child=SIGKILL", "--net", "--ipc", "--mount-proc",
		"sh", "-c", firstScript, "sh", n.dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		_ = in.Close()
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "up\n" {
		n.t.Fatalf("the node has not come up: %q, %v", line, err)
	}
	n.first = childOf(cmd.Process.Pid)
}

// childOf is the only child of a process; 0: it has none yet.
func childOf(pid int) (child int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	_, _ = fmt.Sscan(string(text), &child)
	return child
}

// enter makes a command one of the node.
func (n *node) enter(argv ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{"--target", fmt.Sprint(n.first), "--mount", "--pid", "--net", "--ipc", "--"}, argv...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/"}
	cmd.Dir = "/"
	return cmd
}

// sh runs a program on the node, as it is written, and fails the test with its words.
func (n *node) sh(argv ...string) string {
	n.t.Helper()
	out, err := n.enter(argv...).CombinedOutput()
	if err != nil {
		n.t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

func (n *node) path(name string) string { return filepath.Join(n.dir, name) }

// at is where this machine finds a file of the node.
func (n *node) at(path string) string { return fmt.Sprintf("/proc/%d/root%s", n.first, path) }

func (n *node) write(name, text string) {
	n.t.Helper()
	if err := os.MkdirAll(filepath.Dir(n.path(name)), 0o755); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(n.path(name), []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
	if strings.HasPrefix(name, "etc/") {
		_ = os.Chmod(n.path(name), 0o644)
	}
}

// cgroup is the group that is above those of the node's pods, in every hierarchy.
func (n *node) cgroup() string { return "/" + filepath.Base(n.dir) }

// clean takes away what does not go with the first process.
func (n *node) clean() {
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		left := n.removeCgroups()
		if len(left) == 0 {
			break
		}
		if time.Now().After(end) {
			n.t.Errorf("cgroups are left: %q", left)
			break
		}
	}
	_ = os.RemoveAll(n.dir)
}

// removeCgroups removes the node's groups, and returns those that cannot be yet.
func (n *node) removeCgroups() (left []string) {
	tops, _ := filepath.Glob("/sys/fs/cgroup/*" + n.cgroup())
	for _, top := range tops {
		var all []string
		_ = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				all = append(all, path)
			}
			return nil
		})
		slices.Reverse(all)
		for _, path := range all {
			if os.Remove(path) != nil {
				left = append(left, path)
			}
		}
	}
	return left
}
