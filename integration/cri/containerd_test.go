// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package cri

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/egret-proxy/egret/integration/internal/testbed"
)

// Paths on the node.
const (
	criSocket = "/run/containerd/containerd.sock"
	image     = "egret.test/workload:1"
)

// runtimes are the folders of the containerds that are tested with; empty: Debian's, which
// has no events.
func runtimes(t *testing.T) map[string]string {
	t.Helper()
	return map[string]string{"debian": "", "newer": testbed.Built(t, "../build/containerd.sh")}
}

const containerdConfig = `version = 2
root = "DIR/containerd/root"
state = "/run/containerd"
oom_score = 0
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.blockfile"]
[grpc]
  address = "SOCKET"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "IMAGE"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "DIR/cni/bin"
    conf_dir = "DIR/cni/conf"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
`

// containerd runs on a node.
type containerd struct {
	n   *node
	bin string // folder; empty: Debian's
	p   *program
	api api.RuntimeServiceClient
}

func newContainerd(t *testing.T, n *node, bin string) *containerd {
	t.Helper()
	c := &containerd{n: n, bin: bin}
	n.write("containerd.toml", strings.NewReplacer("DIR", n.dir, "SOCKET", criSocket, "IMAGE", image).Replace(containerdConfig))
	c.network(t, "")
	c.start(t)
	conn, err := grpc.NewClient("unix://"+n.at(criSocket), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c.api = api.NewRuntimeServiceClient(conn)
	c.awaitReady(t)
	writeImage(t, n.path("image.tar"))
	n.sh("ctr", "--address", criSocket, "--namespace", "k8s.io", "images", "import", n.path("image.tar"))
	return c
}

// network writes the CNI configuration. more are plugins that come last.
func (c *containerd) network(t *testing.T, more string) {
	t.Helper()
	if _, err := os.Stat(c.n.path("cni/bin")); err != nil {
		if err := os.MkdirAll(c.n.path("cni/bin"), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"ptp", "host-local", "loopback"} {
			if err := os.Symlink("/usr/lib/cni/"+name, c.n.path("cni/bin/"+name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(os.Getenv(egretVar), c.n.path("cni/bin/egret-cni")); err != nil {
			t.Fatal(err)
		}
	}
	c.n.write("cni/conf/10-pods.conflist", fmt.Sprintf(`{"cniVersion":"1.0.0","name":"pods","plugins":[
		{"type":"ptp","ipam":{"type":"host-local","dataDir":%q,"ranges":[[{"subnet":%q}]],"routes":[{"dst":"0.0.0.0/0"}]}}%s]}`, c.n.path("cni/ipam"), podNetwork, more))
}

func (c *containerd) start(t *testing.T) {
	t.Helper()
	program, path := "containerd", "/usr/sbin:/usr/bin:/sbin:/bin"
	if c.bin != "" {
		program, path = filepath.Join(c.bin, program), c.bin+":"+path
	}
	c.p = c.n.begin(t, "containerd", "containerd successfully booted", "env", "PATH="+path, program, "--config", c.n.path("containerd.toml"))
}

// kill ends it as a crash does. Its shims, and with them the pods, go on.
func (c *containerd) kill(t *testing.T) {
	t.Helper()
	c.p.kill(t)
}

func (c *containerd) awaitReady(t *testing.T) {
	t.Helper()
	waitFor(t, "containerd is ready", func() bool {
		m, err := c.api.Status(t.Context(), &api.StatusRequest{})
		if err != nil {
			return false
		}
		ready := 0
		for _, x := range m.GetStatus().GetConditions() {
			if x.GetStatus() && (x.GetType() == "RuntimeReady" || x.GetType() == "NetworkReady") {
				ready++
			}
		}
		return ready == 2
	})
}

// writeImage writes a docker-archive of one layer with one program.
func writeImage(t *testing.T, path string) {
	t.Helper()
	program, err := os.ReadFile(os.Getenv(workloadVar))
	if err != nil {
		t.Fatal(err)
	}
	layer := archive(t, file{"workload", program, 0o755})
	sum := sha256.Sum256(layer)
	config := asJSON(t, map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": time.Unix(0, 0).UTC(),
		"config": map[string]any{"Entrypoint": []string{"/workload"}, "Cmd": []string{"pause"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}},
	})
	manifest := asJSON(t, []map[string]any{{"Config": "config.json", "RepoTags": []string{image}, "Layers": []string{"layer.tar"}}})
	all := archive(t, file{"manifest.json", manifest, 0o644}, file{"config.json", config, 0o644}, file{"layer.tar", layer, 0o644})
	if err := os.WriteFile(path, all, 0o600); err != nil {
		t.Fatal(err)
	}
}

type file struct {
	name string
	data []byte
	mode int64
}

func archive(t *testing.T, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), Format: tar.FormatUSTAR}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func asJSON(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
