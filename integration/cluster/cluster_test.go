// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"

	"github.com/egret-proxy/egret/integration/internal/testbed"
)

// adminConfig is what kubectl reads, in the node's own /etc.
const adminConfig = "/etc/kubernetes/admin.kubeconfig"

// containerdSocket is where the kubelet and ctr ask.
const containerdSocket = "/run/containerd/containerd.sock"

// cluster is a Kubernetes of one node.
type cluster struct {
	*node
	bin    string // its programs
	bundle *spiffebundle.Bundle
}

// newCluster starts one. The node is ready when it returns.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to make namespaces")
	}
	for _, program := range []string{"etcd", "containerd", "runc", "ctr", "nft", "ip", "/usr/lib/cni/bridge"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not here: integration/run packages", program)
		}
	}
	begin := time.Now()
	c := &cluster{bin: testbed.Built(t, "../build/kube.sh"), node: newNode(t)}
	c.pki()
	c.startContainerd()
	c.start("etcd", "etcd", "--data-dir="+c.file("etcd"), "--unsafe-no-fsync", "--log-level=warn")
	c.startServer()
	c.start("kube-controller-manager", c.program("kube-controller-manager"), "--kubeconfig="+c.file("pki/manager.kubeconfig"), "--leader-elect=false",
		"--use-service-account-credentials", "--service-account-private-key-file="+c.file("pki/accounts.key"), "--root-ca-file="+c.file("pki/ca.pem"))
	c.start("kube-scheduler", c.program("kube-scheduler"), "--kubeconfig="+c.file("pki/scheduler.kubeconfig"), "--leader-elect=false")
	c.startKubelet()
	c.await("the node to be ready", func() bool {
		return strings.Contains(c.try(Program{Args: c.ctl("get", "node", nodeName)}).Output, " Ready ")
	})
	t.Logf("the cluster is ready after %s", time.Since(begin).Round(100*time.Millisecond))
	return c
}

func (c *cluster) program(name string) string { return filepath.Join(c.bin, name) }

func (c *cluster) ctl(args ...string) []string {
	return append([]string{c.program("kubectl")}, args...)
}

// kubectl must succeed.
func (c *cluster) kubectl(args ...string) string {
	c.t.Helper()
	return c.run(c.ctl(args...)...)
}

// inNode writes a file of the node's own /etc or /run.
func (c *cluster) inNode(path, text string) {
	c.t.Helper()
	out := c.try(Program{Args: []string{"sh", "-c", `mkdir -p "$(dirname "$0")" && cat >"$0"`, path}, Input: text})
	if out.Code != 0 {
		c.t.Fatalf("%s: %s", path, out.Output)
	}
}

func (c *cluster) pki() {
	c.t.Helper()
	a := newAuthority(c.node)
	a.identity("admin", "admin", "system:masters")
	a.identity("server", "kube-apiserver", "system:masters", "127.0.0.1", nodeAddress, "10.96.0.1", "kubernetes.default.svc")
	a.identity("manager", "system:kube-controller-manager", "")
	a.identity("scheduler", "system:kube-scheduler", "")
	a.identity("kubelet", "system:node:"+nodeName, "system:nodes", nodeAddress, "127.0.0.1", nodeName)
	a.identity("spire-agent", "spire-agent", "")
	text, err := os.ReadFile(c.file("pki/admin.kubeconfig"))
	c.must(err)
	c.inNode(adminConfig, string(text))
}

func (c *cluster) startServer() {
	c.t.Helper()
	pki := func(name string) string { return c.file("pki/" + name) }
	c.start("kube-apiserver", c.program("kube-apiserver"), "--etcd-servers=http://127.0.0.1:2379", "--advertise-address="+nodeAddress, "--endpoint-reconciler-type=none",
		"--tls-cert-file="+pki("server.pem"), "--tls-private-key-file="+pki("server.key"), "--client-ca-file="+pki("ca.pem"),
		"--kubelet-client-certificate="+pki("server.pem"), "--kubelet-client-key="+pki("server.key"), "--kubelet-certificate-authority="+pki("ca.pem"),
		"--kubelet-preferred-address-types=InternalIP", "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--anonymous-auth=false",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local", "--service-account-key-file="+pki("accounts.pub"),
		"--service-account-signing-key-file="+pki("accounts.key"), "--service-cluster-ip-range=10.96.0.0/24", "--profiling=false")
	c.await("kube-apiserver", func() bool { return c.try(Program{Args: c.ctl("get", "--raw", "/readyz")}).Code == 0 })
}

const containerdConfig = `version = 2
[grpc]
address = %q
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "registry.acme.example/client:latest"
restrict_oom_score_adj = true
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/opt/cni/bin"
conf_dir = "/etc/cni/net.d"
`

// network is what a node has before egret comes.
const network = `{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
`

func (c *cluster) startContainerd() {
	c.t.Helper()
	c.run("sh", "-c", "mkdir -p /opt/cni/bin && cp /usr/lib/cni/bridge /usr/lib/cni/host-local /usr/lib/cni/loopback /opt/cni/bin/")
	c.inNode("/etc/cni/net.d/10-pods.conflist", network)
	c.inNode("/etc/resolv.conf", "nameserver "+dnsAddress+"\n")
	c.start("containerd", "containerd", "--config", c.write("containerd.toml", fmt.Sprintf(containerdConfig, containerdSocket)))
	c.await("containerd", func() bool { return c.try(Program{Args: []string{"ctr", "version"}}).Code == 0 })
}

const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: %[1]s/ca.pem}}
authorization: {mode: Webhook}
tlsCertFile: %[1]s/kubelet.pem
tlsPrivateKeyFile: %[1]s/kubelet.key
containerRuntimeEndpoint: unix://%[2]s
cgroupDriver: cgroupfs
cgroupRoot: /
failCgroupV1: false
failSwapOn: false
syncFrequency: 5s
oomScoreAdj: 0
clusterDNS: [%[3]s]
clusterDomain: cluster.local
resolvConf: /etc/resolv.conf
evictionHard: {memory.available: 10Mi}
imageGCHighThresholdPercent: 100
`

func (c *cluster) startKubelet() {
	c.t.Helper()
	c.start("kubelet", c.program("kubelet"), "--config="+c.write("kubelet.yaml", fmt.Sprintf(kubeletConfig, c.file("pki"), containerdSocket, dnsAddress)),
		"--kubeconfig="+c.file("pki/kubelet.kubeconfig"), "--hostname-override="+nodeName, "--node-ip="+nodeAddress)
}
