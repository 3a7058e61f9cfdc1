// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// kernel is a Runner in which ip has the effect that it has in a namespace; nft is there,
// and fails where it is told to.
type kernel struct {
	table   string // egret's, as nft lists it
	rules   map[string]int
	routes  map[string]int
	nft, ip error
	without bool // IPv6
	given   []string
}

func newKernel() *kernel { return &kernel{rules: map[string]int{}, routes: map[string]int{}} }

func (k *kernel) Run(_ context.Context, input, program string, args ...string) (string, error) {
	line := strings.Join(args, " ")
	switch {
	case program == "nft" && line == "list ruleset":
		return k.table, nil
	case program == "nft" && k.nft == nil:
		_, k.table, _ = strings.Cut(input, "delete table inet egret\n")
		return "", nil
	case program == "nft":
		return "", k.nft
	case program != "ip":
		return "", fmt.Errorf("%s %w", program, ErrMissing)
	case k.ip != nil:
		return "", k.ip
	}
	k.given = append(k.given, line)
	return k.routing(input, args)
}

func (k *kernel) routing(input string, args []string) (string, error) {
	family := args[0]
	if k.without && family == "-6" {
		return "", errors.New("ip: \"RTNETLINK answers: Address family not supported by protocol\\nDump terminated\"")
	}
	switch strings.Join(args[1:], " ") {
	case "rule show":
		return "0:\tfrom all lookup local\n" + strings.Repeat("65:\tfrom all fwmark 0x1000/0x1000 lookup 25959\n", k.rules[family]) + "32766:\tfrom all lookup main\n", nil
	case "route show table 25959":
		if k.routes[family] == 0 {
			return "", errors.New("ip: \"Error: ipv4: FIB table does not exist. Dump terminated\"")
		}
		return "local default dev lo scope host\n", nil
	}
	for line := range strings.Lines(input) {
		switch line = strings.TrimSpace(line); {
		case line == "rule add "+theRule() && k.rules[family] == 0:
			k.rules[family]++
		case line == "rule del "+theRule() && k.rules[family] > 0:
			k.rules[family]--
		case line == "route replace "+theRoute():
			k.routes[family] = 1
		case line == "route del "+theRoute() && k.routes[family] > 0:
			k.routes[family] = 0
		case !strings.HasPrefix(line, "#"):
			return "", fmt.Errorf("ip: %q fails", line)
		}
	}
	return "", nil
}

func (k *kernel) routed() [4]int {
	return [4]int{k.rules["-4"], k.rules["-6"], k.routes["-4"], k.routes["-6"]}
}

func tproxyPlan(t *testing.T, change func(*Options)) *Plan {
	t.Helper()
	o := routed65(usual())
	if change != nil {
		change(&o)
	}
	p, err := New(Nft, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestRoutesComeAndGo: twice is once, another mode takes them away, and so does removal,
// also of what an Apply that was killed has left.
func TestRoutesComeAndGo(t *testing.T) {
	both, four, none := [4]int{1, 1, 1, 1}, [4]int{1, 0, 1, 0}, [4]int{}
	k := newKernel()
	fw := NewFirewall(k)
	step := func(name string, want [4]int, err error) {
		t.Helper()
		if err != nil || k.routed() != want {
			t.Errorf("%s: %v, %v; want %v", name, k.routed(), err, want)
		}
	}
	remove := func() error { _, err := fw.Remove(t.Context(), Auto); return err }
	redirecting, err := New(Nft, usual())
	if err != nil {
		t.Fatal(err)
	}
	step("applied", both, fw.Apply(t.Context(), tproxyPlan(t, nil)))
	step("applied twice", both, fw.Apply(t.Context(), tproxyPlan(t, nil)))
	step("for IPv4 only", four, fw.Apply(t.Context(), tproxyPlan(t, func(o *Options) { o.IPv4Only = true })))
	step("removed", none, remove())
	step("again", both, fw.Apply(t.Context(), tproxyPlan(t, nil)))
	step("by the other mode", none, fw.Apply(t.Context(), redirecting))
	k.rules["-4"], k.routes["-6"], k.table = 2, 1, ""
	step("what was left", none, remove())
	k.given = nil
	step("of nothing", none, remove())
	if text := strings.Join(k.given, "\n"); strings.Contains(text, "batch") {
		t.Errorf("to remove nothing it ran\n%s", text)
	}
}

// TestWithoutIPv6: what the kernel has not is not there to be removed, and no reason to fail.
func TestWithoutIPv6(t *testing.T) {
	k := newKernel()
	k.without = true
	fw := NewFirewall(k)
	if err := fw.Apply(t.Context(), tproxyPlan(t, func(o *Options) { o.IPv4Only = true })); err != nil || k.routed() != [4]int{1, 0, 1, 0} {
		t.Errorf("applied: %v, %v", k.routed(), err)
	}
	if _, err := fw.Remove(t.Context(), Auto); err != nil || k.routed() != [4]int{} {
		t.Errorf("removed: %v, %v", k.routed(), err)
	}
	if _, err := fw.Remove(t.Context(), Auto); err != nil {
		t.Errorf("removed twice: %v", err)
	}
	if err := fw.Apply(t.Context(), tproxyPlan(t, nil)); err == nil || !strings.Contains(err.Error(), "--ipv4-only") || k.routed() != [4]int{} {
		t.Errorf("for both: %v, %v", k.routed(), err)
	}
}

// TestNoHalfARoute: where anything fails, what was made is taken back, and what was there
// stays.
func TestNoHalfARoute(t *testing.T) {
	k := newKernel()
	k.nft = errors.New("no such hook")
	if err := NewFirewall(k).Apply(t.Context(), tproxyPlan(t, nil)); err == nil || k.routed() != [4]int{} {
		t.Errorf("%v: %v", err, k.routed())
	}
	k.rules["-4"], k.routes["-4"] = 1, 1
	if err := NewFirewall(k).Apply(t.Context(), tproxyPlan(t, nil)); err == nil || k.routed() != [4]int{1, 0, 1, 0} {
		t.Errorf("%v: %v", err, k.routed())
	}
	k.ip = fmt.Errorf("ip %w: apt-get install iproute2", ErrMissing)
	if err := NewFirewall(k).Apply(t.Context(), tproxyPlan(t, nil)); !errors.Is(err, ErrMissing) || k.table != "" {
		t.Errorf("without ip: %v", err)
	}
	if _, err := NewFirewall(k).Remove(t.Context(), Auto); err != nil { // without ip nothing was routed
		t.Error(err)
	}
}

// TestModesReplaceEachOther: with iptables, what a plan of the other mode has made goes.
func TestModesReplaceEachOther(t *testing.T) {
	for _, o := range []Options{usual(), routed65(usual())} {
		was := routed65(usual())
		if o.Mode == TProxy {
			was.Mode = Redirect
		}
		p, err := New(IptablesLegacy, o)
		if err != nil {
			t.Fatal(err)
		}
		script := iptablesScript(p, familyV4, saveOf(familyV4, was))
		for _, j := range jumps(was.Mode) {
			gone := strings.Contains(script, "-D "+j.from+" "+j.rule()+"\n")
			if kept := j.table == "filter"; gone == kept {
				t.Errorf("%s to %s: %+v is gone: %v\n%s", was.Mode, o.Mode, j, gone, script)
			}
		}
		if again := iptablesScript(p, familyV4, saveOf(familyV4, o)); strings.Contains(again, "-D ") || strings.Contains(again, "-I ") {
			t.Errorf("%s again:\n%s", o.Mode, again)
		}
	}
}

// FuzzRouting: whatever else ip prints, egret's own rule and route count once each, and a
// rule that only looks like it does not.
func FuzzRouting(f *testing.F) {
	f.Add("65:\tfrom all fwmark 0x1000/0x1000 lookup 25959\n")
	f.Add("65:\tfrom all fwmark 0x1000/0x1000 lookup 25959 suppress_prefixlength 0\n64: from all lookup 25959\nlocal default dev lo\n")
	const rule, route = "65:\tfrom all fwmark 0x1000/0x1000 lookup 25959", "local default dev lo scope host\n"
	f.Fuzz(func(t *testing.T, shown string) {
		base := shown + "\n"
		rules, routes := countRule(base), countRoute(base)
		if n := countRule(base + rule + "\n"); n != rules+1 {
			t.Errorf("%d rules with egret's, %d without", n, rules)
		}
		if n := countRule(base + rule + " suppress_prefixlength 0\n6" + rule + "\n"); n != rules {
			t.Errorf("%d rules with others', %d without", n, rules)
		}
		if n := countRoute(base + route); n != routes+1 {
			t.Errorf("%d routes with egret's, %d without", n, routes)
		}
	})
}
