// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// What TPROXY knows its packets by. The bit is set in the mark of each captured packet and,
// so that a connection stays what it was when it began, in the mark that the kernel keeps
// for it. Other bits, which are others', are left as they are. (Kubernetes uses 0xc000,
// Cilium 0xf00, Istio 0xfff, Calico 0xffff0000.)
const (
	captureBit  = 0x1000
	routeTable  = 25959 // "eg"
	routeRank   = 65    // before every table but that of the machine's own addresses
	routingRule = "rule"
	routingTo   = "route"
)

func bitText() string { return fmt.Sprintf("%#x/%#[1]x", captureBit) }

// theRule is the routing rule, and theRoute the one route of its table, as ip takes them.
func theRule() string {
	return fmt.Sprintf("pref %d fwmark %s lookup %d", routeRank, bitText(), routeTable)
}

func theRoute() string { return fmt.Sprintf("local default dev lo table %d", routeTable) }

func routes(o Options) []Rule {
	var out []Rule
	for _, family := range o.families() {
		out = append(out,
			Rule{Family: family, Table: routingRule, Chain: fmt.Sprint(routeRank), Rule: theRule(), Reason: becauseRouted},
			Rule{Family: family, Table: routingTo, Chain: fmt.Sprint(routeTable), Rule: theRoute(), Reason: becauseLocal})
	}
	return out
}

// routeScript is what ip -batch is given. A rule that is there already is left alone: ip
// would add it once more.
func routeScript(rules []Rule, family string, there bool) string {
	var b strings.Builder
	for _, r := range rules {
		if r.Family != family {
			continue
		}
		verb := "replace"
		if r.Table == routingRule {
			if verb = "add"; there {
				continue
			}
		}
		fmt.Fprintf(&b, "# %s\n%s %s %s\n", r.Reason, r.Table, verb, r.Rule)
	}
	return b.String()
}

// countRule counts egret's rule in the output of ip rule show.
func countRule(shown string) int {
	n := 0
	for line := range strings.Lines(shown) {
		rank, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		if rank == fmt.Sprint(routeRank) && strings.Join(strings.Fields(rest), " ") == fmt.Sprintf("from all fwmark %s lookup %d", bitText(), routeTable) {
			n++
		}
	}
	return n
}

// countRoute counts egret's route in the output of ip route show of its table.
func countRoute(shown string) int {
	n := 0
	for line := range strings.Lines(shown) {
		if strings.HasPrefix(strings.TrimSpace(line), "local default dev lo") {
			n++
		}
	}
	return n
}

func ipFlag(family string) string {
	if family == familyV6 {
		return "-6"
	}
	return "-4"
}

// routed is what of egret's routing a family has.
type routed struct{ rules, routes int }

func (r routed) any() bool { return r.rules+r.routes > 0 }

func (f *Firewall) routed(ctx context.Context, family string) (routed, error) {
	rules, err := f.run.Run(ctx, "", "ip", ipFlag(family), "rule", "show")
	if err != nil && strings.Contains(err.Error(), "Address family not supported") { // a kernel without IPv6 routes nothing
		return routed{}, nil
	}
	if err != nil {
		return routed{}, err
	}
	list, err := f.run.Run(ctx, "", "ip", ipFlag(family), "route", "show", "table", fmt.Sprint(routeTable))
	if err != nil && !strings.Contains(err.Error(), "does not exist") { // there has never been one
		return routed{}, err
	}
	return routed{countRule(rules), countRoute(list)}, nil
}

// addRoutes makes the routing of the plan. undo takes back what was not there before.
func (f *Firewall) addRoutes(ctx context.Context, p *Plan) (undo func() error, err error) {
	var made []string
	undo = func() error {
		var errs error
		for _, family := range made {
			errs = errors.Join(errs, f.dropRoutes(ctx, family))
		}
		return errs
	}
	for _, family := range p.options.families() {
		has, err := f.routed(ctx, family)
		if err == nil && !has.any() {
			made = append(made, family)
		}
		if err == nil {
			_, err = f.run.Run(ctx, routeScript(p.routes, family, has.rules > 0), "ip", ipFlag(family), "-batch", "-")
		}
		if err != nil {
			return undo, errors.Join(familyError(err, family), undo())
		}
	}
	return undo, nil
}

// dropRoutes removes egret's routing of one family, where it is there.
func (f *Firewall) dropRoutes(ctx context.Context, family string) error {
	has, err := f.routed(ctx, family)
	if errors.Is(err, ErrMissing) || err == nil && !has.any() {
		return nil // without ip nothing was routed
	}
	if err != nil {
		return err
	}
	script := strings.Repeat("rule del "+theRule()+"\n", has.rules) + strings.Repeat("route del "+theRoute()+"\n", has.routes)
	_, err = f.run.Run(ctx, script, "ip", ipFlag(family), "-batch", "-")
	return err
}

func (f *Firewall) dropAllRoutes(ctx context.Context) error {
	return errors.Join(f.dropRoutes(ctx, familyV4), f.dropRoutes(ctx, familyV6))
}

func familyError(err error, family string) error {
	if family == familyV6 {
		return fmt.Errorf("%w (where there is no IPv6: --ipv4-only)", err)
	}
	return err
}
