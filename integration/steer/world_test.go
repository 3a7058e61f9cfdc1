// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package steer

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/egret-proxy/egret/integration/internal/testbed"
	"github.com/egret-proxy/egret/internal/netns"
	"github.com/egret-proxy/egret/internal/saas"
	"github.com/egret-proxy/egret/internal/secret"
)

const (
	egretUID    = 14660
	firstUID    = 14700 // of the first pod's workload
	podCount    = 10
	cgroupMount = "/sys/fs/cgroup/unified"
)

// hosts are the SaaS; each has an address of its own in either family.
func hosts() []string { return []string{"api.egret.test", "other.egret.test"} }

// addressOf is where a host is, in a range that is public, so that egret dials it.
func addressOf(host string, v6 bool) string {
	n := slices.Index(hosts(), host) + 10
	if v6 {
		return fmt.Sprintf("2600:6666::%d", n)
	}
	return fmt.Sprintf("45.33.11.%d", n)
}

// world is a node, its pods and what is outside, in a namespace each. The node routes, so
// that what is not captured gets through, and is seen.
type world struct {
	dir       string
	host, out string // names of namespaces
	hostNS    *netns.NS
	outNS     *netns.NS
	pods      []*pod
	tokens    *saas.Issuer
	arrivals  testbed.PodSaaS
	packets   *packets
}

// pod is a namespace with a workload that has a cgroup and a user of its own.
type pod struct {
	w      *world
	n      int
	ns     string
	netns  *netns.NS
	cgroup string // path below the mount
}

func (p *pod) name() string   { return fmt.Sprintf("pod%d", p.n) }
func (p *pod) id() string     { return "spiffe://acme.example/" + p.name() }
func (p *pod) uid() int       { return firstUID + p.n }
func (p *pod) file() string   { return p.w.file("netns/" + p.name()) } // in the folder that is steered
func (p *pod) source() string { return "/run/netns/" + p.ns }

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to make network namespaces")
	}
	if _, err := os.Stat(cgroupMount + "/cgroup.procs"); err != nil {
		t.Skip("needs cgroup v2 at " + cgroupMount)
	}
	dir, err := os.MkdirTemp("", "egret-steer-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w := &world{dir: dir, arrivals: testbed.PodSaaS{Keys: map[string]secret.Secret{}}}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"netns", "run"} { // root's, who may not write anywhere else
		if err := os.Mkdir(w.file(folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w.host, w.hostNS = makeNamespace(t, "host")
	w.out, w.outNS = makeNamespace(t, "out")
	w.wire(t)
	w.tokens = saas.NewIssuer(nil)
	for n := range podCount {
		w.pods = append(w.pods, w.newPod(t, n))
	}
	w.serve(t)
	w.makeCA(t)
	w.writePolicy(t)
	w.packets = watch(t, w.hostNS)
	return w
}

// sh runs a program as it is written, without a shell, and fails the test with its words.
func sh(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

func makeNamespace(t *testing.T, name string) (string, *netns.NS) {
	t.Helper()
	full := prefix() + name
	sh(t, "ip", "netns", "add", full)
	t.Cleanup(func() {
		sh(t, "ip", "netns", "del", full)
		_ = os.RemoveAll("/etc/netns/" + full)
	})
	sh(t, "ip", "-n", full, "link", "set", "lo", "up")
	n, err := netns.Open("/run/netns/" + full)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return full, n
}

// link joins two namespaces by a veth pair, of which a's end is the .2 of a network.
func link(t *testing.T, a, b, peer string, network int) {
	t.Helper()
	batch := func(ns, lines string) {
		cmd := exec.Command("ip", "-n", ns, "-batch", "-")
		cmd.Stdin = strings.NewReader(lines)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("ip: %v\n%s", err, out)
		}
	}
	batch(a, fmt.Sprintf("link add eth0 type veth peer name %s netns %s\nlink set eth0 up\naddr add 10.66.%d.2/24 dev eth0\naddr add fd66:%d::2/64 dev eth0 nodad\n", peer, b, network, network))
	batch(b, fmt.Sprintf("link set %s up\naddr add 10.66.%d.1/24 dev %[1]s\naddr add fd66:%[2]d::1/64 dev %[1]s nodad\n", peer, network))
	batch(a, fmt.Sprintf("route add default via 10.66.%d.1\nroute add ::/0 via fd66:%[1]d::1\n", network))
}

// wire joins the node with what is outside, gives the SaaS their addresses, and lets the
// node route.
func (w *world) wire(t *testing.T) {
	t.Helper()
	link(t, w.host, w.out, "node", 100)
	for _, h := range hosts() {
		sh(t, "ip", "-n", w.out, "addr", "add", addressOf(h, false)+"/32", "dev", "lo")
		sh(t, "ip", "-n", w.out, "addr", "add", addressOf(h, true)+"/128", "dev", "lo", "nodad")
	}
	sh(t, "ip", "-n", w.out, "route", "add", "10.66.0.0/16", "via", "10.66.100.2")
	sh(t, "ip", "-n", w.out, "-6", "route", "add", "fd66::/16", "via", "fd66:100::2")
	if err := w.hostNS.Do(func() error {
		for _, f := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
			if err := os.WriteFile("/proc/sys/net/"+f, []byte("1"), 0); err != nil { // those of the thread's namespace
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	w.names(t, w.host)
}

// names says what resolves where in a namespace.
func (w *world) names(t *testing.T, ns string) {
	t.Helper()
	text := "127.0.0.1 localhost\n::1 localhost\n"
	for _, h := range hosts() {
		text += addressOf(h, true) + " " + h + "\n" + addressOf(h, false) + " " + h + "\n"
	}
	dir := "/etc/netns/" + ns
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"hosts": text, "resolv.conf": "nameserver 10.66.100.1\noptions timeout:1 attempts:1\n", "nsswitch.conf": "hosts: files\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// newPod makes a pod that nobody steers yet.
func (w *world) newPod(t *testing.T, n int) *pod {
	t.Helper()
	p := &pod{w: w, n: n, cgroup: "/" + prefix() + fmt.Sprintf("pod%d", n)}
	p.ns, p.netns = makeNamespace(t, p.name())
	link(t, p.ns, w.host, p.name(), n)
	w.names(t, p.ns)
	makeCgroup(t, p.cgroup)
	w.arrivals.Keys[p.name()] = w.tokens.Issue([]string{"chat:write"}, 0)
	return p
}

// makeCgroup makes a cgroup for the life of the test.
func makeCgroup(t *testing.T, name string) {
	t.Helper()
	path := cgroupMount + name
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 100 { // its processes have just ended
			if os.Remove(path) == nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("cgroup %s is left", name)
	})
}

// mount puts the pod's namespace into the folder that is steered.
func (p *pod) mount(t *testing.T) {
	t.Helper()
	bind(t, p.source(), p.file())
}

func bind(t *testing.T, source, target string) {
	t.Helper()
	if err := os.WriteFile(target, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unbind(target) })
}

func unbind(target string) {
	_ = unix.Unmount(target, unix.MNT_DETACH)
	_ = os.Remove(target)
}

// serve starts the twins in the namespace outside.
func (w *world) serve(t *testing.T) {
	t.Helper()
	ca, err := saas.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	l, err := w.outNS.Listen(t.Context(), "tcp", "[::]:443")
	if err != nil {
		t.Fatal(err)
	}
	twins, err := saas.ListenOn(l, ca, saas.Host{Name: hosts()[0], Handler: &w.arrivals}, saas.Host{Name: hosts()[1], Handler: &w.arrivals})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = twins.Close() })
	w.write(t, "twins.pem", ca.PEM())
}

func (w *world) file(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(t *testing.T, name string, text []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(w.file(name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.file(name), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// makeCA makes the interception CA with the program's own commands.
func (w *world) makeCA(t *testing.T) {
	t.Helper()
	egret := os.Getenv(egretVar)
	sh(t, egret, "ca", "init", "--domains", "egret.test", "--out", w.file("ca"))
	sh(t, egret, "ca", "issue", "--root", w.file("ca"), "--out", w.file("issuer"), "--host", hosts()[0], "--host", hosts()[1])
	root, err := os.ReadFile(w.file("ca/ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "trust/bundle.pem", root)
}

// writePolicy gives each pod a key of its own for the one host, and none for the other,
// which nobody may call.
func (w *world) writePolicy(t *testing.T) {
	t.Helper()
	var b bytes.Buffer
	for _, h := range hosts() {
		name, _, _ := strings.Cut(h, ".")
		fmt.Fprintf(&b, "---\napiVersion: egret.dev/v1alpha1\nkind: Destination\nmetadata: {name: %s}\nspec: {hosts: [%s], tls: {roots: twins.pem}}\n", name, h)
	}
	for _, p := range w.pods {
		w.write(t, "secrets/"+p.name(), []byte(w.arrivals.Keys[p.name()].Reveal()+"\n"))
		b.WriteString(testbed.PodPolicy(p.name(), p.id()))
	}
	w.write(t, "policy.yaml", b.Bytes())
}
