// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestBadNode loads one file per fault and compares the full text.
func TestBadNode(t *testing.T) {
	dir := newFolder(t)
	for _, input := range testdata(t, "bad/node-*.yaml") {
		t.Run(filepath.Base(input), func(t *testing.T) {
			node, faults := LoadNode(copyInto(t, dir, input), podEnv())
			if node != nil || len(faults) == 0 {
				t.Fatal("loaded without a fault")
			}
			golden(t, input, strings.ReplaceAll(faults.Error(), dir+"/", "")+"\n")
		})
	}
}

func TestGoodNode(t *testing.T) {
	dir := newFolder(t)
	for _, input := range testdata(t, "good/node-*.yaml") {
		t.Run(filepath.Base(input), func(t *testing.T) {
			if _, faults := LoadNode(copyInto(t, dir, input), podEnv()); len(faults) > 0 {
				t.Fatal(faults)
			}
		})
	}
}

func loadText(t *testing.T, text string, env Env) (*Node, Faults) {
	t.Helper()
	return LoadNode(put(t, newFolder(t), "egret.yaml", text, 0o600), env)
}

func TestLoadNodeResolvesPathsAndDefaults(t *testing.T) {
	dir := newFolder(t)
	node, faults := LoadNode(copyInto(t, dir, "testdata/good/node-minimal.yaml"), podEnv())
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	want := Defaults()
	want.Node = "node-1"
	want.Listeners = []Listener{{Name: "local", Address: "127.0.0.1:8630", Kind: "forward", Identify: Identify{Sidecar: &Sidecar{}}}}
	want.Spiffe = Spiffe{WorkloadAPI: "unix:///run/spire/agent.sock", TrustDomains: []string{"acme.example"}}
	want.Certs.Issuer.File = []IssuerFile{{Chain: filepath.Join(dir, "chain.pem"), Key: filepath.Join(dir, "key.pem")}}
	want.Policy.Paths = []PolicyPath{{Path: filepath.Join(dir, "policy.yaml")}}
	if diff := cmp.Diff(&want, node); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLoadNodeWrittenBeatsDefault(t *testing.T) {
	node, faults := LoadNode(copyInto(t, newFolder(t), "testdata/good/node-full.yaml"), podEnv())
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if node.Limits.ResponseHeader != 0 {
		t.Errorf("responseHeader is %v, a written 0 must stay", node.Limits.ResponseHeader)
	}
	if node.Limits.ConnectionsPerWorkload != 500 {
		t.Errorf("connectionsPerWorkload is %d, the default must follow connections down", node.Limits.ConnectionsPerWorkload)
	}
	if got := node.Listeners[2].Identify.JWTSVID.MaxTTL; got != 30*time.Minute {
		t.Errorf("maxTTL is %v", got)
	}
}

func TestLoadNodeTakesEndpointFromEnvironment(t *testing.T) {
	env := podEnv()
	env.Getenv = func(k string) string { return map[string]string{"SPIFFE_ENDPOINT_SOCKET": "unix:///tmp/a.sock"}[k] }
	data, err := Env{}.complete().ReadFile("testdata/good/node-minimal.yaml")
	check(t, err)
	node, faults := loadText(t, strings.Replace(string(data), "  workloadAPI: unix:///run/spire/agent.sock\n", "", 1), env)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if node.Spiffe.WorkloadAPI != "unix:///tmp/a.sock" {
		t.Errorf("workloadAPI is %q", node.Spiffe.WorkloadAPI)
	}
}

// TestMUST_T6_DenyCIDRsInCluster: in a cluster the ranges are required.
func TestMUST_T6_DenyCIDRsInCluster(t *testing.T) {
	env := podEnv()
	env.Getenv = func(k string) string { return map[string]string{"KUBERNETES_SERVICE_HOST": "10.96.0.1"}[k] }
	_, faults := LoadNode(copyInto(t, newFolder(t), "testdata/good/node-minimal.yaml"), env)
	if len(faults) != 1 || faults[0].Path != "egress.denyCIDRs" {
		t.Errorf("got %v, want one fault at egress.denyCIDRs", faults)
	}
}

// TestAllFaultsAtOnce: structure, decoding and meaning of one file in one report,
// sorted by line, each place once.
func TestAllFaultsAtOnce(t *testing.T) {
	_, faults := loadText(t, `listeners:
  - {name: A, address: x, kind: reverse, identify: {}}
spiffe: {trustDomains: []}
certs: {issuer: {}, leafTTL: 1y}
policy: {paths: []}
policy: {paths: []}
limits: {idle: &x 0s, handshake: 5}
unknown: 1
`, podEnv())
	var got []string
	for _, f := range faults {
		got = append(got, f.Path)
	}
	want := []string{
		"listeners[0].name", "listeners[0].address", "listeners[0].kind", "listeners[0].identify",
		"spiffe.workloadAPI", "spiffe.trustDomains", "certs.issuer", "certs.leafTTL", "policy.paths", "policy",
		"limits.idle", "limits.idle", "limits.handshake", "unknown",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s\n%v", diff, faults)
	}
}

// TestMUST_I13_Sidecar: whoever reaches a sidecar listener is the workload.
func TestMUST_I13_Sidecar(t *testing.T) {
	tests := []struct {
		name, address, identify, goos string
		host, ok                      bool
	}{
		{name: "loopback in a pod", address: "127.0.0.1:1", identify: "sidecar: {}", ok: true},
		{name: "ipv6 loopback in a pod", address: "'[::1]:1'", identify: "sidecar: {}", ok: true},
		{name: "mapped loopback", address: "'[::ffff:127.0.0.1]:1'", identify: "sidecar: {}", ok: true},
		{name: "unix socket in a pod", address: "unix:///run/x", identify: "sidecar: {}", ok: true},
		{name: "all addresses", address: "0.0.0.0:1", identify: "sidecar: {}"},
		{name: "all ipv6 addresses", address: "'[::]:1'", identify: "sidecar: {}"},
		{name: "pod address", address: "10.1.2.3:1", identify: "sidecar: {}"},
		{name: "all addresses, same user", address: "0.0.0.0:1", identify: "sidecar: {sameUser: true}"},
		{name: "host network", address: "127.0.0.1:1", identify: "sidecar: {}", host: true},
		{name: "host network, unix socket", address: "unix:///run/x", identify: "sidecar: {}", host: true},
		{name: "host network, same user", address: "127.0.0.1:1", identify: "sidecar: {sameUser: true}", host: true, ok: true},
		{name: "same user elsewhere", address: "127.0.0.1:1", identify: "sidecar: {sameUser: true}", host: true, goos: "darwin"},
		{name: "systemd", address: "systemd:x", identify: "sidecar: {}"},
		{name: "systemd, same user", address: "systemd:x", identify: "sidecar: {sameUser: true}", ok: true},
		{name: "token on loopback", address: "127.0.0.1:1", identify: "jwtSVID: {audience: a}", host: true, ok: true},
		{name: "token on a socket", address: "unix:///run/x", identify: "jwtSVID: {audience: a}", ok: true},
		{name: "token in the open", address: "0.0.0.0:1", identify: "jwtSVID: {audience: a}"},
		{name: "token on systemd", address: "systemd:x", identify: "jwtSVID: {audience: a}"},
		{name: "token over tls", address: "0.0.0.0:1", identify: "jwtSVID: {audience: a}}, tls: {cert: chain.pem, key: key.pem", ok: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			env := podEnv()
			env.HostNetwork = func() bool { return tt.host }
			if tt.goos != "" {
				env.GOOS = tt.goos
			}
			_, faults := loadText(t, "listeners: [{name: a, kind: forward, address: "+tt.address+", identify: {"+tt.identify+"}}]\n"+
				"spiffe: {workloadAPI: unix:///a, trustDomains: [a.example]}\ncerts: {issuer: {ephemeral: {}}}\npolicy: {paths: [{path: policy.yaml}]}\n", env)
			if (len(faults) == 0) != tt.ok {
				t.Errorf("faults: %v, want ok %v", faults, tt.ok)
			}
		})
	}
}

// TestDefaultsAreWithinBounds also proves that every bound names a setting.
func TestDefaultsAreWithinBounds(t *testing.T) {
	settings := make(map[string]Setting)
	for _, s := range Settings() {
		settings[s.Key] = s
	}
	for _, b := range Bounds() {
		if !b.allows(b.Default) || b.Min > b.Max || b.Min <= 0 {
			t.Errorf("%s: default %d is not from %d to %d", b.Key, b.Default, b.Min, b.Max)
		}
		if s := settings[b.Key]; s.Default == "" || s.Rule == "" {
			t.Errorf("%s: no setting, or one without default and rule: %+v", b.Key, s)
		}
	}
	for key := range enumerations() {
		if settings[key].Rule == "" {
			t.Errorf("%s: no setting for this enumeration", key)
		}
	}
}

func TestSettings(t *testing.T) {
	got := make(map[string]Setting)
	for _, s := range Settings() {
		if _, twice := got[s.Key]; twice {
			t.Errorf("%s is listed twice", s.Key)
		}
		got[s.Key] = s
	}
	for _, want := range []Setting{
		{Key: "limits.idle", Type: "duration", Default: "5m", Rule: "must be from 1s to 24h", Doc: "Limits.Idle"},
		{Key: "limits.headerBytes", Type: "size", Default: "64KiB", Rule: "must be from 1KiB to 1MiB", Doc: "Limits.HeaderBytes"},
		{Key: "limits.responseHeader", Type: "duration", Default: "5m", Rule: "must be from 100ms to 24h, or 0 for no bound", Doc: "Limits.ResponseHeader"},
		{Key: "listeners[].identify.jwtSVID.maxTTL", Type: "duration", Default: "1h", Rule: "must be from 1m to 24h", Doc: "JWTSVID.MaxTTL"},
		{Key: "egress.unlisted", Type: "string", Default: "deny", Rule: "must be one of deny, tunnel", Doc: "Egress.Unlisted"},
		{Key: "listeners", Type: "list of mappings", Doc: "Node.Listeners"},
		{Key: "spiffe.trustDomains", Type: "list of strings", Doc: "Spiffe.TrustDomains"},
		{Key: "certs.issuer.ephemeral", Type: "mapping", Doc: "CertIssuer.Ephemeral"},
		{Key: "audit.file", Type: "string", Default: "-", Doc: "Audit.File"},
	} {
		if diff := cmp.Diff(want, got[want.Key]); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// TestEveryNumberHasABound: a number that nothing bounds is a hole.
func TestEveryNumberHasABound(t *testing.T) {
	bounds := boundsByKey()
	for _, s := range Settings() {
		if s.Type != "number" && s.Type != "size" && s.Type != "duration" {
			continue
		}
		if _, ok := bounds[s.Key]; !ok {
			t.Errorf("%s (%s) has no bound", s.Key, s.Type)
		}
	}
}

// TestEveryFieldHasAName: the decoder knows fields by their json tags only.
func TestEveryFieldHasAName(t *testing.T) {
	for _, s := range Settings() {
		if strings.HasSuffix(s.Key, ".") || s.Doc == "" {
			t.Errorf("setting without a name: %+v", s)
		}
	}
	node := reflect.TypeFor[Node]()
	for i := range node.NumField() {
		if jsonName(node.Field(i)) == "" {
			t.Errorf("Node.%s has no json tag", node.Field(i).Name)
		}
	}
}

// TestMUST_P3_MissingFilesAreFaults: nothing that cannot be read is passed over.
func TestMUST_P3_MissingFilesAreFaults(t *testing.T) {
	if _, faults := LoadNode(filepath.Join(t.TempDir(), "egret.yaml"), podEnv()); len(faults) != 1 {
		t.Errorf("missing settings: %v", faults)
	}
	for _, missing := range []string{"chain.pem", "key.pem", "policy.yaml"} {
		env := podEnv().complete()
		stat := env.Stat
		env.Stat = func(name string) (fs.FileInfo, error) {
			if filepath.Base(name) == missing {
				return nil, errors.New("gone")
			}
			return stat(name)
		}
		_, faults := LoadNode(copyInto(t, newFolder(t), "testdata/good/node-minimal.yaml"), env)
		if len(faults) != 1 || faults[0].Value != missing {
			t.Errorf("%s missing: %v", missing, faults)
		}
	}
}
