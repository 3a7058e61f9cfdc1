// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The stages of the node's first process, which is this program again: it joins the node's
// cgroups and takes them for the root, then puts the node's file system together and starts
// what it is told to.
const (
	stageVar   = "CLUSTER_STAGE"
	planVar    = "CLUSTER_PLAN"
	stageJoin  = "join"
	stageServe = "serve"
)

// plan is what the first process has to know.
type plan struct {
	Dir     string   // of the node, on a file system that overlays can be made of
	Groups  []string // the node's cgroups, one in each hierarchy
	Mounts  []cgroupMount
	Sysctls map[string]string // that nobody may change, since they are the machine's
}

// firstProcess is the life of the node's first process. It returns only on failure.
func firstProcess(stage string) error {
	var p plan
	if err := json.Unmarshal([]byte(os.Getenv(planVar)), &p); err != nil {
		return err
	}
	if stage == stageJoin {
		return p.join()
	}
	if err := p.mount(); err != nil {
		return err
	}
	s := rpc.NewServer()
	if err := s.RegisterName("Node", &starter{logs: filepath.Join(p.Dir, "log")}); err != nil {
		return err
	}
	s.ServeConn(pipes{os.Stdin, os.Stdout}) // until the test's process ends, or closes it
	return errors.New("nobody needs this node")
}

// join ends in the next stage: a cgroup namespace begins where the process is when it makes
// one, and is a thread's own until the next exec.
func (p plan) join() error {
	for _, g := range p.Groups {
		if err := os.WriteFile(filepath.Join(g, "cgroup.procs"), []byte("0"), 0); err != nil {
			return err
		}
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil { // main's thread is locked, see TestMain
		return err
	}
	_ = os.Setenv(stageVar, stageServe)
	return unix.Exec("/proc/self/exe", os.Args[:1], os.Environ())
}

// mount puts the file system of the node over that of the machine. Mounts that pods need to
// see are shared, as on every node.
func (p plan) mount() error {
	m := &mounter{dir: p.Dir}
	m.mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	m.mount("proc", "/proc", "proc", 0, "")
	for _, d := range []string{"/etc", "/var", "/opt"} {
		m.overlay(d)
	}
	m.mount("tmpfs", "/run", "tmpfs", 0, "mode=755")
	m.folder("/run/netns")
	for _, d := range []string{"/var/lib/kubelet", "/var/lib/containerd"} { // on which overlays are made again
		m.folder(d)
		m.bind(m.folder(filepath.Join(p.Dir, filepath.Base(d))), d)
	}
	for name, value := range p.Sysctls {
		m.bind(m.file("sysctl-"+strings.ReplaceAll(name, "/", "-"), value), "/proc/sys/"+name)
	}
	m.mount("sysfs", "/sys", "sysfs", 0, "")
	m.mount("tmpfs", "/sys/fs/cgroup", "tmpfs", 0, "mode=755")
	for _, c := range p.Mounts {
		m.folder(c.At)
		m.mount("cgroup", c.At, c.Type, 0, c.Options)
	}
	m.mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "")
	if m.err == nil {
		m.err = unix.Sethostname([]byte(nodeName))
	}
	return m.err
}

// mounter does one thing after the other until one fails.
type mounter struct {
	dir string
	err error
}

func (m *mounter) mount(source, target, kind string, flags uintptr, data string) {
	if m.err != nil {
		return
	}
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		m.err = fmt.Errorf("mount %q on %q (%s %s): %w", source, target, kind, data, err)
	}
}

func (m *mounter) bind(source, target string) { m.mount(source, target, "", unix.MS_BIND, "") }

func (m *mounter) overlay(d string) {
	upper, work := m.folder(filepath.Join(m.dir, "upper"+d)), m.folder(filepath.Join(m.dir, "work"+d))
	m.mount("overlay", d, "overlay", 0, "lowerdir="+d+",upperdir="+upper+",workdir="+work)
}

func (m *mounter) folder(name string) string {
	if m.err == nil {
		m.err = os.MkdirAll(name, 0o755)
	}
	return name
}

func (m *mounter) file(name, text string) string {
	name = filepath.Join(m.dir, name)
	if m.err == nil {
		m.err = os.WriteFile(name, []byte(text), 0o644)
	}
	return name
}

type pipes struct {
	io.ReadCloser
	io.Writer
}

// starter starts programs in the node.
type starter struct{ logs string }

// Program is one to be started, or run to its end.
type Program struct {
	Name  string // of its log; "" runs it to its end
	Args  []string
	Input string
}

// Ended is how it went.
type Ended struct {
	Code   int
	Output string // and errors
}

func (p Program) command() *exec.Cmd {
	cmd := exec.Command(p.Args[0], p.Args[1:]...)
	cmd.Dir, cmd.Stdin = "/", strings.NewReader(p.Input)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "KUBECONFIG=" + adminConfig}
	return cmd
}

// Run runs a program to its end.
func (s *starter) Run(p Program, out *Ended) error {
	cmd := p.command()
	text, err := cmd.CombinedOutput()
	out.Output = string(text)
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		out.Code, err = exit.ExitCode(), nil
	}
	return err
}

// Start starts a program that stays.
func (s *starter) Start(p Program, pid *int) error {
	log, err := os.OpenFile(filepath.Join(s.logs, p.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := p.command()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	*pid = cmd.Process.Pid
	go func() { // it ends when the node does, or its log says so
		how := fmt.Sprintln(p.Name, "has ended:", cmd.Wait())
		_ = os.WriteFile(filepath.Join(s.logs, p.Name+".end"), []byte(how), 0o600)
	}()
	return nil
}
