// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package cluster

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// image is what is in one: files by their paths, and how it is started.
type image struct {
	files      map[string][]byte
	user       string
	entrypoint []string
}

// archive writes it as docker save does, with one layer.
func (i image) archive(t *testing.T, name string) []byte {
	t.Helper()
	layer := tarball(t, i.files)
	sum := sha256.Sum256(layer)
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": i.entrypoint, "User": i.user, "Env": []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}},
	})
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := json.Marshal([]any{map[string]any{"Config": "config.json", "RepoTags": []string{name}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		t.Fatal(err)
	}
	return tarball(t, map[string][]byte{"config.json": config, "layer.tar": layer, "manifest.json": manifest})
}

// tarball holds programs and other files of root's that everybody may run and read.
func tarball(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	seen := map[string]bool{".": true}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		rel := strings.TrimPrefix(name, "/")
		var parents []string
		for d := path.Dir(rel); !seen[d]; d = path.Dir(d) {
			seen[d] = true
			parents = append(parents, d)
		}
		for _, d := range slices.Backward(parents) {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: d + "/", Mode: 0o755}); err != nil {
				t.Fatal(err)
			}
		}
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: rel, Mode: 0o755, Size: int64(len(files[name]))})
		if err == nil {
			_, err = w.Write(files[name])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// buildContext is what a Dockerfile is built from: the files that it copies, and the programs
// that its base image and its RUN would have, which come from this machine.
type buildContext struct {
	files map[string][]byte // by the words of COPY: "bin/egret", "/etc/ssl/…" of another stage
	base  map[string][]byte
}

// dockerfile reads deploy/image/Dockerfile and builds one of its targets. It knows what is
// used there, and fails on anything else.
func (c buildContext) dockerfile(t *testing.T, target string) image {
	t.Helper()
	text, err := os.ReadFile("../../deploy/image/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	stages, at := map[string]image{"scratch": {}, "debian:12-slim": {files: c.base}}, ""
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		i := stages[at]
		switch words[0] {
		case "FROM":
			base, known := stages[words[1]]
			if !known || len(words) != 4 {
				t.Fatalf("Dockerfile: %q", line)
			}
			at, i = words[3], image{files: maps.Clone(base.files)}
		case "RUN": // installs what buildContext.base has
			for _, pkg := range []string{"ca-certificates", "iproute2", "nftables"} {
				if !slices.Contains(words, pkg) {
					t.Fatalf("Dockerfile: %q does not install %s", line, pkg)
				}
			}
		case "USER":
			i.user = words[1]
		case "ENTRYPOINT":
			err = json.Unmarshal([]byte(strings.Join(words[1:], " ")), &i.entrypoint)
		case "COPY":
			i.files = c.copied(t, i.files, words[1:])
		default:
			t.Fatalf("Dockerfile: %q", line)
		}
		if err != nil {
			t.Fatalf("Dockerfile: %q: %v", line, err)
		}
		stages[at] = i
	}
	if _, known := stages[target]; !known {
		t.Fatalf("Dockerfile: no target %q", target)
	}
	return stages[target]
}

func (c buildContext) copied(t *testing.T, to map[string][]byte, words []string) map[string][]byte {
	t.Helper()
	if strings.HasPrefix(words[0], "--from=") {
		words = words[1:]
	}
	data, ok := c.files[words[0]]
	if len(words) != 2 || !ok {
		t.Fatalf("Dockerfile: COPY %q", words)
	}
	if to == nil {
		to = map[string][]byte{}
	}
	to[words[1]] = data
	return to
}

var library = regexp.MustCompile(`(?m)(/\S+) \(0x`)

// programs are programs of this machine with the libraries that they need.
func programs(t *testing.T, names ...string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, name := range names {
		where, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		libraries, err := exec.Command("ldd", where).Output()
		if err != nil {
			t.Fatalf("ldd %s: %v", where, err)
		}
		list := []string{where}
		for _, m := range library.FindAllStringSubmatch(string(libraries), -1) {
			list = append(list, m[1])
		}
		for _, file := range list {
			if out[file], err = os.ReadFile(file); err != nil {
				t.Fatal(err)
			}
		}
	}
	return out
}

// goProgram builds one as the Makefile does.
func goProgram(t *testing.T, pkg string) []byte {
	t.Helper()
	file := os.Getenv("INTEGRATION_" + strings.ToUpper(path.Base(pkg))) // it is there already
	if file == "" {
		file = path.Join(t.TempDir(), "program")
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", file, pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", pkg, err, out)
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// images puts all images of the examples into the node's containerd. roots are what egret
// verifies SaaS by.
func (c *cluster) images(roots []byte) {
	c.t.Helper()
	from := buildContext{
		files: map[string][]byte{"bin/egret": goProgram(c.t, "../../cmd/egret"), "/etc/ssl/certs/ca-certificates.crt": roots},
		base:  programs(c.t, "sh", "cp", "mv", "ip", "nft"),
	}
	static := func(pkg string) image {
		return image{files: map[string][]byte{"/program": goProgram(c.t, pkg)}, entrypoint: []string{"/program"}}
	}
	for name, i := range map[string]image{
		"egret": from.dockerfile(c.t, "egret"), "egret-redirect": from.dockerfile(c.t, "egret-redirect"),
		"dashboard": static("../../examples/local/dashboard"), "client": static("./client"),
	} {
		full := fmt.Sprintf("registry.acme.example/%s:latest", name)
		c.must(os.WriteFile(c.file(name+".tar"), i.archive(c.t, full), 0o600))
		c.run("ctr", "-n", "k8s.io", "images", "import", c.file(name+".tar"))
	}
}
