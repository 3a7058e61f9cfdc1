// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

func usual() Options { return Options{Port: 8650, UID: 14650, IncludePorts: []uint16{443, 80}} }

// routed65 makes options those of TPROXY.
func routed65(o Options) Options {
	o.Mode = TProxy
	return o
}

func everything() Options {
	return Options{
		Port: 8651, UID: 14650, Mark: 0x22, ExcludePorts: []uint16{8443, 22, 22},
		ExcludeCIDRs: []netip.Prefix{netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("10.96.0.0/12"), netip.MustParsePrefix("10.0.0.0/16")},
	}
}

func TestRules(t *testing.T) {
	noUser := usual()
	noUser.UID, noUser.Mark, noUser.IPv4Only = NoUID, 1, true
	noTLS := usual()
	noTLS.IncludePorts = []uint16{80}
	apart := usual()
	apart.UID, apart.Apart = NoUID, true
	for name, o := range map[string]Options{
		"usual": usual(), "everything": everything(), "mark-ipv4-only": noUser, "port-80": noTLS, "apart": apart,
		"tproxy-usual": routed65(usual()), "tproxy-everything": routed65(everything()), "tproxy-mark-ipv4-only": routed65(noUser), "tproxy-apart": routed65(apart),
	} {
		for _, b := range []Backend{Nft, Iptables} {
			p, err := New(b, o)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+"-"+string(b)+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(p.String()), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), p.String()); d != "" {
				t.Errorf("%s, %s (-want +got):\n%s", name, b, d)
			}
			for _, r := range p.Rules() {
				if r.Reason == "" || r.Table == "" || r.Chain == "" || r.Family == "" || strings.ContainsAny(r.Rule, "\n;") {
					t.Errorf("%s, %s: %+v", name, b, r)
				}
			}
		}
	}
}

// TestTheSameOptionsMakeTheSameRules: whatever order they are written in.
func TestTheSameOptionsMakeTheSameRules(t *testing.T) {
	a, b := everything(), everything()
	slices.Reverse(b.ExcludeCIDRs)
	b.ExcludePorts = []uint16{22, 8443}
	one, err1 := New(Iptables, a)
	two, err2 := New(Iptables, b)
	if err := errors.Join(err1, err2); err != nil || one.String() != two.String() {
		t.Errorf("%v\n%s", err, cmp.Diff(one.String(), two.String()))
	}
}

func TestBadOptions(t *testing.T) {
	for want, change := range map[string]func(*Options){
		"port must be from 1 to 65535":   func(o *Options) { o.Port = 0 },
		"which are Istio's":              func(o *Options) { o.Port = 15001 },
		"uid 0 must not be left alone":   func(o *Options) { o.UID = 0 },
		"without a uid there must be":    func(o *Options) { o.UID = NoUID },
		"is not a user id":               func(o *Options) { o.UID = 1<<32 - 1 },
		"nobody must be left alone":      func(o *Options) { o.Apart = true },
		"port 53 must not be captured":   func(o *Options) { o.IncludePorts = []uint16{53} },
		"port 8650 must not be captured": func(o *Options) { o.IncludePorts = []uint16{8650} },
		"both captured and left alone":   func(o *Options) { o.ExcludePorts = []uint16{443} },
		"port 0 is no port":              func(o *Options) { o.ExcludePorts = []uint16{0} },
		"mode \"dnat\" must be":          func(o *Options) { o.Mode = "dnat" },
		"must not have the bit 0x1000":   func(o *Options) { o.Mode, o.Mark = TProxy, 0x1001 },
		"no bits set beyond its length":  func(o *Options) { o.ExcludeCIDRs = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")} },
	} {
		o := usual()
		change(&o)
		if p, err := New(Nft, o); p != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
	if _, err := New(Auto, usual()); err == nil {
		t.Error("rules for no program")
	}
	two := usual()
	two.Port, two.UID = 0, 0
	if _, err := New(Nft, two); err == nil || len(strings.Split(err.Error(), "\n")) != 2 {
		t.Errorf("not every fault is told: %v", err)
	}
}

// recorded is a Runner that answers what it was told to and notes what it was given.
type recorded struct {
	answers map[string]string // by program
	fail    map[string]error
	given   []string
}

func (r *recorded) Run(_ context.Context, input, program string, args ...string) (string, error) {
	if err := r.fail[program]; err != nil {
		return "", err
	}
	answer, ok := r.answers[program]
	if !ok {
		return "", fmt.Errorf("%s %w", program, ErrMissing)
	}
	if input != "" {
		r.given = append(r.given, program+" "+strings.Join(args, " ")+"\n"+input)
	}
	return answer, nil
}

const emptySave = "*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -j KUBE-SERVICES\nCOMMIT\n"

// saveOf is what iptables-save shows after our rules are in.
func saveOf(family string, o Options) string {
	p, err := New(Iptables, o)
	if err != nil {
		panic(err)
	}
	var b strings.Builder
	for _, table := range iptablesTables() {
		fmt.Fprintf(&b, "*%s\n:OUTPUT ACCEPT [5:300]\n", table)
		declare(&b, table, jumps(o.Mode))
		for _, r := range p.rules {
			if r.Family == family && r.Table == table {
				fmt.Fprintf(&b, "-A %s %s\n", r.Chain, r.Rule)
			}
		}
		b.WriteString("-A OUTPUT -d 1.2.3.4/32 -j ACCEPT\nCOMMIT\n")
	}
	return b.String()
}

func TestApplyTwiceIsApplyOnce(t *testing.T) {
	p, err := New(IptablesNft, usual())
	if err != nil {
		t.Fatal(err)
	}
	r := &recorded{answers: map[string]string{
		"iptables-nft-save": emptySave, "ip6tables-nft-save": emptySave, "iptables-nft-restore": "", "ip6tables-nft-restore": "",
	}}
	if err := NewFirewall(r).Apply(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	first := strings.Join(r.given, "\n")
	if strings.Count(first, "-I OUTPUT 1") != 4 || strings.Count(first, "--noflush --wait 10") != 2 {
		t.Errorf("first:\n%s", first)
	}
	r.given = nil
	r.answers["iptables-nft-save"], r.answers["ip6tables-nft-save"] = saveOf("ipv4", usual()), saveOf("ipv6", usual())
	if err := NewFirewall(r).Apply(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if second := strings.Join(r.given, "\n"); strings.Contains(second, "-I OUTPUT") || !strings.Contains(second, ":"+captureChain+" - [0:0]") {
		t.Errorf("second:\n%s", second)
	}
}

// TestHalfARedirectionIsNone: where IPv6 fails, IPv4 is taken back.
func TestHalfARedirectionIsNone(t *testing.T) {
	p, err := New(IptablesLegacy, usual())
	if err != nil {
		t.Fatal(err)
	}
	r := &recorded{
		answers: map[string]string{"iptables-legacy-save": "", "ip6tables-legacy-save": "", "iptables-legacy-restore": ""},
		fail:    map[string]error{"ip6tables-legacy-restore": errors.New("no IPv6 here")},
	}
	f := NewFirewall(r)
	if err := f.restore(t.Context(), p, "ipv4"); err != nil {
		t.Fatal(err)
	}
	r.answers["iptables-legacy-save"], r.given = saveOf("ipv4", usual()), nil
	err = f.Apply(t.Context(), p)
	if err == nil || !strings.Contains(err.Error(), "--ipv4-only") {
		t.Errorf("got %v", err)
	}
	if last := r.given[len(r.given)-1]; !strings.Contains(last, "-X "+captureChain) || !strings.Contains(last, "-X "+guardChain) {
		t.Errorf("last:\n%s", last)
	}
}

func TestRemoval(t *testing.T) {
	want := "*nat\n-D OUTPUT -p tcp -j EGRET_CAPTURE\n-F EGRET_CAPTURE\n-X EGRET_CAPTURE\nCOMMIT\n" +
		"*filter\n-D OUTPUT -j EGRET_GUARD\n-F EGRET_GUARD\n-X EGRET_GUARD\nCOMMIT\n"
	if got := removal(saveOf("ipv4", usual())); got != want {
		t.Errorf("got\n%s", got)
	}
	if got := removal(emptySave); got != "" {
		t.Errorf("of nothing:\n%s", got)
	}
	r := &recorded{answers: map[string]string{"nft": "table inet egret {\n}\n", "iptables-legacy-save": saveOf("ipv4", usual()), "iptables-legacy-restore": ""}}
	got, err := NewFirewall(r).Remove(t.Context(), Auto)
	if err != nil || !slices.Equal(got, []Backend{Nft, IptablesLegacy}) || len(r.given) != 2 {
		t.Errorf("got %v, %v:\n%s", got, err, strings.Join(r.given, "\n"))
	}
	r.given = nil
	if got, err = NewFirewall(r).Remove(t.Context(), Iptables); err != nil || !slices.Equal(got, []Backend{IptablesLegacy}) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestTwoProgramsAreNotMixed(t *testing.T) {
	p, err := New(Nft, usual())
	if err != nil {
		t.Fatal(err)
	}
	r := &recorded{answers: map[string]string{"nft": "", "iptables-legacy-save": saveOf("ipv4", usual())}}
	if err := NewFirewall(r).Apply(t.Context(), p); err == nil || !strings.Contains(err.Error(), "redirected twice") || len(r.given) != 0 {
		t.Errorf("got %v", err)
	}
}

func TestChoose(t *testing.T) {
	for want, r := range map[Backend]*recorded{
		Nft:            {answers: map[string]string{"nft": "", "iptables-nft-save": ""}},
		Iptables:       {answers: map[string]string{"iptables-nft-save": ""}},
		IptablesLegacy: {answers: map[string]string{"nft": "", "iptables-legacy-save": saveOf("ipv4", usual())}},
	} {
		if got, err := NewFirewall(r).Choose(t.Context(), Auto); got != want || err != nil {
			t.Errorf("got %s, %v; want %s", got, err, want)
		}
	}
	if _, err := NewFirewall(&recorded{}).Choose(t.Context(), Auto); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "apt-get install") {
		t.Errorf("nothing is installed: %v", err)
	}
}

func TestProgramErrors(t *testing.T) {
	if err := programError("nft", "Error: Could not process rule: Operation not permitted\nadd table", errors.New("exit status 1")); !errors.Is(err, ErrPrivilege) || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Error(err)
	}
	if err := programError("nft", strings.Repeat("x", 1000), errors.New("exit status 1")); len(err.Error()) > 200 {
		t.Error("it is not clipped")
	}
	if _, err := NewRunner().Run(t.Context(), "", "no-such-program-of-egret"); !errors.Is(err, ErrMissing) {
		t.Error(err)
	}
	if _, err := (&programs{folders: []string{"/bin"}}).Run(t.Context(), "x; touch y\n", "sh", "-c", "exit 3"); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Error(err)
	}
}

// FuzzSave: whatever a ruleset holds, only egret's own chains are ever taken out.
func FuzzSave(f *testing.F) {
	f.Add(emptySave)
	f.Add(saveOf("ipv4", usual()))
	f.Add(saveOf("ipv6", routed65(everything())))
	f.Add("*nat\n:EGRET_CAPTURE_X - [0:0]\n-A OUTPUT -p tcp -j EGRET_CAPTURE -m comment\n*filter\n:OUTPUT DROP\n")
	may := map[string]bool{"COMMIT": true}
	for _, j := range everyJump() {
		for _, line := range []string{"*" + j.table, "-D " + j.from + " " + j.rule(), "-F " + j.to, "-X " + j.to} {
			may[line] = true
		}
	}
	f.Fuzz(func(t *testing.T, save string) {
		for line := range strings.Lines(removal(save)) {
			if line = strings.TrimSuffix(line, "\n"); !may[line] {
				t.Errorf("it would run %q", line)
			}
		}
	})
}
