// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package cluster

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/egret-proxy/egret/examples/local"
)

// TestManifests applies one example after the other to one cluster.
func TestManifests(t *testing.T) {
	w := newWorld(t)
	w.kubectl("create", "namespace", "qa")
	w.kubectl("-n", "qa", "create", "serviceaccount", "dashboard")
	for _, test := range []struct {
		name string
		run  func(*testing.T, *world)
	}{{"sidecar", sidecar}, {"redirect", redirected}, {"daemonset", daemonset}} {
		t.Run(test.name, func(t *testing.T) { test.run(t, w.within(t)) })
	}
}

// world is a cluster with SPIRE and what is outside of it.
type world struct {
	*cluster
	out *outside
}

func newWorld(t *testing.T) *world {
	t.Helper()
	c := newCluster(t)
	c.startSPIRE()
	w := &world{cluster: c, out: newOutside(t, c.ns, c.bundle)}
	c.images(w.out.ca.PEM())
	c.must(os.WriteFile(c.file("egret.bin"), goProgram(t, "../../cmd/egret"), 0o755))
	for _, line := range []string{
		"ca init --domains slack.com,qase.io,pagerduty.com --organization Acme --out ca/",
		"ca issue --root ca/ --host slack.com --host api.qase.io --host api.pagerduty.com --out issuer/ --ttl 30d",
		"ca bundle --ca ca/ca.pem --out trust/",
	} {
		c.inFolder("once", append([]string{c.file("egret.bin")}, strings.Fields(line)...)...)
	}
	return w
}

// within is a world of one test of the cluster.
func (w *world) within(t *testing.T) *world {
	n := *w.node
	n.t = t
	c := *w.cluster
	c.node = &n
	return &world{cluster: &c, out: w.out}
}

// inFolder runs a program in a folder of the node's.
func (c *cluster) inFolder(name string, args ...string) string {
	c.t.Helper()
	c.must(os.MkdirAll(c.file(name), 0o755))
	return c.run(append([]string{"sh", "-c", `cd "$0" && exec "$@"`, c.file(name)}, args...)...)
}

// lay makes the folder that the README of an example leads to: the example, the policy of
// the local one, the keys of the SaaS, and what egret ca has made. edit is what people
// change in the example's files: old, new, and so on.
func (w *world) lay(example string, edit ...string) {
	w.t.Helper()
	files, err := local.Render(local.Overlay{})
	w.must(err)
	own, err := filepath.Glob(filepath.Join("../../examples", example, "*.yaml"))
	w.must(err)
	for _, name := range own {
		text, err := os.ReadFile(name)
		w.must(err)
		files[filepath.Base(name)] = []byte(strings.NewReplacer(edit...).Replace(string(text)))
	}
	files["secrets/qase-token"] = []byte(w.out.dashboard.Reveal() + "\n")
	files["secrets/pagerduty-client-secret"] = []byte("never-used\n")
	base := filepath.Join("examples", example, "base")
	for name, text := range files {
		w.write(filepath.Join(base, name), string(text))
	}
	w.run("cp", "-r", w.file("once/issuer"), w.file("once/trust"), w.file(base))
	w.inFolder(base, w.file("egret.bin"), "check", "-c", "egret.yaml")
}

// apply applies an example with what an overlay of it changes.
func (w *world) apply(example, overlay string) {
	w.t.Helper()
	w.write(filepath.Join("examples", example, "overlay/kustomization.yaml"), overlay)
	w.kubectl("apply", "--server-side", "-k", w.file(filepath.Join("examples", example, "overlay")))
}

// object is JSON in the making.
type object = map[string]any

// get is an object of the cluster.
func (w *world) get(args ...string) object {
	w.t.Helper()
	var o object
	w.must(json.Unmarshal([]byte(w.kubectl(append([]string{"get", "-o", "json"}, args...)...)), &o))
	return o
}

// at is what is in an object at a path of names and numbers.
func at(o any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := o.(object)
			o = m[p]
		case int:
			l, _ := o.([]any)
			if p >= len(l) {
				return nil
			}
			o = l[p]
		}
	}
	return o
}

// job runs the job of the CronJob of namespace qa now, as kubectl create job --from does,
// and waits until it has ended as it should: complete or failed.
func (w *world) job(name, want string, edit func(pod object)) {
	w.t.Helper()
	var o object
	w.must(json.Unmarshal([]byte(w.kubectl("-n", "qa", "create", "job", name, "--from=cronjob/nightly-dashboard", "--dry-run=client", "-o", "json")), &o))
	edit(at(o, "spec", "template", "spec").(object))
	text, err := json.Marshal(o)
	w.must(err)
	w.feed(string(text), "apply", "-f", "-")
	if out := w.try(Program{Args: w.ctl("-n", "qa", "wait", "--for=condition="+want, "job/"+name, "--timeout=120s")}); out.Code != 0 {
		w.explain("qa")
		w.t.Fatalf("job %s is not %s: %s", name, want, out.Output)
	}
}

// feed gives kubectl its input.
func (w *world) feed(input string, args ...string) string {
	w.t.Helper()
	out := w.try(Program{Args: w.ctl(args...), Input: input})
	if out.Code != 0 {
		w.t.Fatalf("kubectl %s: %s\n%s", strings.Join(args, " "), out.Output, input)
	}
	return out.Output
}

// explain shows what is known of the pods of a namespace.
func (w *world) explain(namespace string) {
	w.t.Helper()
	w.t.Log(w.kubectl("-n", namespace, "get", "pods", "-o", "wide"), w.kubectl("-n", namespace, "get", "events", "--sort-by=.lastTimestamp"))
	for name := range strings.FieldsSeq(w.kubectl("-n", namespace, "get", "pods", "-o", "name")) {
		w.t.Logf("%s:\n%s", name, w.try(Program{Args: w.ctl("-n", namespace, "logs", "--all-containers", "--prefix", name)}).Output)
	}
}

// words are what a container has written.
func (w *world) words(namespace, of, container string) string {
	w.t.Helper()
	return w.try(Program{Args: w.ctl("-n", namespace, "logs", of, "-c", container)}).Output
}

// has fails the test where a text does not have all of some words.
func has(t *testing.T, what, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%s: %q is not in:\n%s", what, word, text)
		}
	}
}
