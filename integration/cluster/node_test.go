// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/egret-proxy/egret/internal/netns"
)

const nodeName = "node-1"

// cgroupMount is one hierarchy of this machine.
type cgroupMount struct{ At, Type, Options string }

// node is a machine of its own in everything but its kernel.
type node struct {
	t     *testing.T
	dir   string
	first *exec.Cmd
	rpc   *rpc.Client
	ns    *netns.NS
	plan  plan
}

// newNode starts one, which ends with the test.
func newNode(t *testing.T) *node {
	t.Helper()
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", prefix, os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, dir: dir}
	t.Cleanup(n.end)
	n.must(os.Chmod(dir, 0o755))
	n.must(os.Mkdir(n.file("log"), 0o755))
	n.plan = plan{Dir: dir, Mounts: cgroupMounts(t), Sysctls: kubeletSysctls()}
	for _, m := range n.plan.Mounts {
		n.plan.Groups = append(n.plan.Groups, n.group(m))
	}
	n.startFirst()
	n.ns, err = netns.Open(fmt.Sprintf("/proc/%d/ns/net", n.first.Process.Pid))
	n.must(err)
	for _, line := range []string{
		"link set lo up", "link add node0 type bridge", "link set node0 up", "addr add " + nodeAddress + "/24 dev node0",
		"addr add " + dnsAddress + "/32 dev node0", "addr add " + saasAddress + "/32 dev node0", "route add default dev node0",
	} {
		n.run(append([]string{"ip"}, strings.Fields(line)...)...)
	}
	return n
}

// Addresses of the node, and of what is outside of it but served at it all the same.
const (
	nodeAddress = "192.0.2.10"
	dnsAddress  = "10.96.0.10"
)

// kubeletSysctls are those that a kubelet sets. They are the machine's and not a
// namespace's, so it is shown that they are set already.
func kubeletSysctls() map[string]string {
	return map[string]string{
		"vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
		"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
	}
}

// cgroupMounts are the hierarchies of this machine.
func cgroupMounts(t *testing.T) []cgroupMount {
	t.Helper()
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []cgroupMount
	for lines := bufio.NewScanner(f); lines.Scan(); {
		left, right, _ := strings.Cut(lines.Text(), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if len(l) < 5 || len(r) < 3 || !strings.HasPrefix(r[0], "cgroup") || filepath.Dir(l[4]) != "/sys/fs/cgroup" {
			continue
		}
		options := slices.DeleteFunc(strings.Split(r[2], ","), func(o string) bool { return o == "rw" })
		if strings.HasPrefix(r[2], "rw,name=") || slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, "name=") }) {
			options = append(options, "none")
		}
		out = append(out, cgroupMount{At: l[4], Type: r[0], Options: strings.Join(options, ",")})
	}
	if len(out) < 2 || !slices.ContainsFunc(out, func(m cgroupMount) bool { return m.At == "/sys/fs/cgroup/unified" }) {
		t.Skip("needs cgroup v1 and v2 side by side, in /sys/fs/cgroup")
	}
	return out
}

// group makes the node's group in a hierarchy.
func (n *node) group(m cgroupMount) string {
	n.t.Helper()
	path := filepath.Join(m.At, filepath.Base(n.dir))
	n.must(os.Mkdir(path, 0o755))
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} { // empty in a new group, and then nothing may run in it
		if m.Options != "cpuset" {
			break
		}
		text, err := os.ReadFile(filepath.Join(m.At, name))
		n.must(err)
		n.must(os.WriteFile(filepath.Join(path, name), text, 0))
	}
	return path
}

func (n *node) startFirst() {
	n.t.Helper()
	p, err := json.Marshal(n.plan)
	n.must(err)
	self, err := os.Executable()
	n.must(err)
	log, err := os.Create(n.file("log/first.log"))
	n.must(err)
	defer log.Close()
	n.first = exec.Command(self)
	n.first.Env = append(os.Environ(), stageVar+"="+stageJoin, planVar+"="+string(p))
	n.first.Stderr = log
	n.first.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	in, err := n.first.StdinPipe()
	n.must(err)
	out, err := n.first.StdoutPipe()
	n.must(err)
	n.must(n.first.Start())
	n.rpc = rpc.NewClient(ends{out, in})
	n.run("true") // it is there
}

// ends are our ends of the first process' pipes.
type ends struct {
	io.Reader
	io.WriteCloser
}

// end kills the first process, and with it the kernel ends all others of the node and lets
// go of what they had mounted.
func (n *node) end() {
	n.logs()
	if n.ns != nil {
		_ = n.ns.Close()
	}
	if n.first != nil && n.first.Process != nil {
		_ = n.first.Process.Kill()
		_ = n.first.Wait()
	}
	for _, g := range n.plan.Groups {
		if err := removeGroup(g); err != nil {
			n.t.Errorf("cgroup %s is left: %v", g, err)
		}
	}
	if err := os.RemoveAll(n.dir); err != nil {
		n.t.Errorf("%s is left: %v", n.dir, err)
	}
}

// removeGroup removes a cgroup and those below it, whose processes have just ended.
func removeGroup(root string) (err error) {
	for range 200 {
		var dirs []string
		_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for _, d := range slices.Backward(dirs) {
			err = os.Remove(d)
		}
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

// logs shows the ends of all logs where the test has failed, and keeps them where
// CLUSTER_KEEP names a folder.
func (n *node) logs() {
	if !n.t.Failed() {
		return
	}
	names, _ := filepath.Glob(n.file("log/*"))
	for _, name := range names {
		b, _ := os.ReadFile(name)
		n.t.Logf("%s:\n%s", filepath.Base(name), b[max(0, len(b)-3000):])
		if keep := os.Getenv("CLUSTER_KEEP"); keep != "" {
			_ = os.WriteFile(filepath.Join(keep, filepath.Base(name)), b, 0o600)
		}
	}
}

func (n *node) file(name string) string { return filepath.Join(n.dir, name) }

func (n *node) write(name, text string) string {
	n.t.Helper()
	path := n.file(name)
	n.must(os.MkdirAll(filepath.Dir(path), 0o755))
	n.must(os.WriteFile(path, []byte(text), 0o644))
	return path
}

func (n *node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// start starts a program of the node, which ends with it.
func (n *node) start(name string, args ...string) (pid int) {
	n.t.Helper()
	n.must(n.rpc.Call("Node.Start", Program{Name: name, Args: args}, &pid))
	return pid
}

// runTime bounds what is run to its end.
const runTime = 3 * time.Minute

// try runs a program in the node to its end.
func (n *node) try(p Program) Ended {
	n.t.Helper()
	var out Ended
	ctx, cancel := context.WithTimeout(n.t.Context(), runTime)
	defer cancel()
	call := n.rpc.Go("Node.Run", p, &out, nil)
	select {
	case <-call.Done:
		n.must(call.Error)
	case <-ctx.Done():
		n.t.Fatalf("%s: not within %s", strings.Join(p.Args, " "), runTime)
	}
	return out
}

// run is try, and must succeed.
func (n *node) run(args ...string) string {
	n.t.Helper()
	out := n.try(Program{Args: args})
	if out.Code != 0 {
		n.t.Fatalf("%s: exit code %d\n%s", strings.Join(args, " "), out.Code, out.Output)
	}
	return out.Output
}

// await waits for something, for two minutes.
func (n *node) await(what string, ok func() bool) {
	n.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			n.t.Fatalf("not within two minutes: %s", what)
		}
	}
}
