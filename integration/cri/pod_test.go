// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package cri

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	api "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// pod is what a kubelet would have containerd make: a sandbox, and a container in it.
type pod struct {
	w                  *world
	n                  int
	name, uid          string
	sandbox, container string // IDs; empty: not made
}

func (w *world) newPod(n int) *pod {
	return &pod{w: w, n: n, name: fmt.Sprintf("pod%d", n), uid: fmt.Sprintf("%08d-2222-3333-4444-555555555555", n)}
}

func (p *pod) id() string  { return "spiffe://acme.example/" + p.name }
func (p *pod) user() int   { return firstUID + p.n }
func (p *pod) url() string { return "https://" + saasHost + "/public/" + p.name }

// config is that of the sandbox, with the labels that a kubelet gives.
func (p *pod) config() *api.PodSandboxConfig {
	return &api.PodSandboxConfig{
		Metadata: &api.PodSandboxMetadata{Name: p.name, Namespace: "qa", Uid: p.uid},
		Hostname: p.name, LogDirectory: p.w.path("log/" + p.name), DnsConfig: &api.DNSConfig{Servers: []string{outAddress}},
		Labels: map[string]string{"io.kubernetes.pod.name": p.name, "io.kubernetes.pod.namespace": "qa", "io.kubernetes.pod.uid": p.uid, "app": "test"},
		Linux: &api.LinuxPodSandboxConfig{
			CgroupParent:    p.w.cgroup() + "/kubepods/besteffort/pod" + p.uid,
			SecurityContext: &api.LinuxSandboxSecurityContext{NamespaceOptions: &api.NamespaceOption{Pid: api.NamespaceMode_CONTAINER}},
		},
	}
}

// make makes the sandbox and the container, which waits, or does what args say.
func (p *pod) make(t *testing.T, args ...string) {
	t.Helper()
	config := p.config()
	p.makeSandbox(t, config)
	if len(args) == 0 {
		args = []string{"pause"}
	}
	for _, dir := range []string{"out/" + p.name, "log/" + p.name} {
		if err := os.MkdirAll(p.w.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(p.w.path("out/"+p.name), p.user(), p.user()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m, err := p.w.c.api.CreateContainer(ctx, &api.CreateContainerRequest{PodSandboxId: p.sandbox, SandboxConfig: config, Config: &api.ContainerConfig{
		Metadata: &api.ContainerMetadata{Name: "main"}, Image: &api.ImageSpec{Image: image}, Args: args, LogPath: "main.log",
		Envs:   []*api.KeyValue{{Key: "SAAS_ADDRESS", Value: []byte(saasAddress + ":443")}},
		Mounts: []*api.Mount{{ContainerPath: "/trust", HostPath: p.w.path("trust"), Readonly: true}, {ContainerPath: "/out", HostPath: p.w.path("out/" + p.name)}},
		Linux:  &api.LinuxContainerConfig{SecurityContext: &api.LinuxContainerSecurityContext{RunAsUser: &api.Int64Value{Value: int64(p.user())}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	p.container = m.GetContainerId()
	if _, err := p.w.c.api.StartContainer(ctx, &api.StartContainerRequest{ContainerId: p.container}); err != nil {
		t.Fatal(err)
	}
}

func (p *pod) makeSandbox(t *testing.T, config *api.PodSandboxConfig) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m, err := p.w.c.api.RunPodSandbox(ctx, &api.RunPodSandboxRequest{Config: config})
	if err != nil {
		t.Fatal(err)
	}
	p.sandbox = m.GetPodSandboxId()
}

// end stops and removes the pod, as a kubelet does.
func (p *pod) end(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := p.w.c.api.StopPodSandbox(ctx, &api.StopPodSandboxRequest{PodSandboxId: p.sandbox}); err != nil {
		t.Error(err)
	}
	if _, err := p.w.c.api.RemovePodSandbox(ctx, &api.RemovePodSandboxRequest{PodSandboxId: p.sandbox}); err != nil {
		t.Error(err)
	}
}

// call makes one request from inside the pod, by a process of its container.
func (p *pod) call(t *testing.T) (out string, ok bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m, err := p.w.c.api.ExecSync(ctx, &api.ExecSyncRequest{ContainerId: p.container, Cmd: []string{"/workload", "call", p.url() + "/x"}, Timeout: 30})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(m.GetStdout()) + string(m.GetStderr())), m.GetExitCode() == 0
}

// works fails the test unless a call from the pod gets through with the pod's own key.
func (p *pod) works(t *testing.T) {
	t.Helper()
	if out, ok := p.call(t); !ok || out != "hello "+p.name {
		t.Errorf("%s: %s", p.name, out)
	}
	p.w.arrivals.HoldOwn(t, 1)
}

// begin lets the container do what it was made for.
func (p *pod) begin(t *testing.T, name string) {
	t.Helper()
	if err := os.WriteFile(p.w.path("out/"+p.name+"/"+name+".go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	p.goesOn(t, name)
}

// goesOn waits until the container has written more.
func (p *pod) goesOn(t *testing.T, name string) {
	t.Helper()
	before := len(p.lines(name))
	waitFor(t, p.name+" writes more", func() bool { return len(p.lines(name)) > before+5 })
}

// lines is what the container has written to /out/NAME.
func (p *pod) lines(name string) []string {
	text, _ := os.ReadFile(p.w.path("out/" + p.name + "/" + name))
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// nft are the rules in the pod.
func (p *pod) nft(t *testing.T) string {
	t.Helper()
	m, err := p.w.c.api.PodSandboxStatus(t.Context(), &api.PodSandboxStatusRequest{PodSandboxId: p.sandbox, Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	_, path, _ := strings.Cut(m.GetInfo()["info"], `"type":"network","path":"`)
	path, _, _ = strings.Cut(path, `"`)
	return p.w.sh("nsenter", "--net="+path, "nft", "list", "ruleset")
}
