// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Runner runs one of the firewall's programs. Arguments and input are never read by a
// shell. ErrMissing: there is no such program.
type Runner interface {
	Run(ctx context.Context, input, program string, args ...string) (output string, err error)
}

// ErrMissing: the program is not installed.
var ErrMissing = errors.New("is not installed")

// Firewall is that of the network namespace in which the runner's programs run. Not safe
// for concurrent use.
type Firewall struct{ run Runner }

// NewFirewall takes the runner of its programs; NewRunner makes the usual one.
func NewFirewall(r Runner) *Firewall { return &Firewall{run: r} }

// Found is what somebody has put into the firewall.
type Found struct {
	Backends []Backend // that hold rules of egret
	Istio    string    // a chain or rule of Istio's redirection; "" where there is none
}

// concrete are the backends that are looked at; iptables itself is one of the two others.
func concrete() []Backend { return []Backend{Nft, IptablesLegacy, IptablesNft} }

// Look asks every program that is installed. At least one must be.
func (f *Firewall) Look(ctx context.Context) (Found, error) {
	var out Found
	asked := 0
	list := concrete()
	for i := 0; i < len(list); i++ {
		text, err := f.dump(ctx, list[i])
		if errors.Is(err, ErrMissing) {
			if list[i] == IptablesNft && asked == 0 { // before 1.8 there was one iptables
				list = append(list, Iptables)
			}
			continue
		}
		if err != nil {
			return out, err
		}
		asked++
		if holds(list[i], text) {
			out.Backends = append(out.Backends, list[i])
		}
		if out.Istio == "" {
			out.Istio = istio(text)
		}
	}
	if asked == 0 {
		return out, fmt.Errorf("neither nft nor iptables %w: apt-get install nftables (or iptables)", ErrMissing)
	}
	return out, nil
}

// dump is the ruleset as the backend prints it, of IPv4 and IPv6.
func (f *Firewall) dump(ctx context.Context, b Backend) (string, error) {
	if b == Nft {
		return f.run.Run(ctx, "", "nft", "list", "ruleset")
	}
	four, err := f.run.Run(ctx, "", saver(b, "ipv4"))
	if err != nil {
		return "", err
	}
	six, err := f.run.Run(ctx, "", saver(b, "ipv6"))
	if errors.Is(err, ErrMissing) {
		return four, nil
	}
	return four + six, err
}

func holds(b Backend, dump string) bool {
	if b == Nft {
		return strings.Contains(dump, "table "+nftTable+" {")
	}
	return len(readSave(dump)) > 0
}

// istio returns what of Istio's redirection a ruleset holds: a chain of its sidecar or of
// its ambient mode, or a redirection to a port of theirs.
func istio(dump string) string {
	for line := range strings.Lines(dump) {
		line = strings.TrimSpace(line)
		if strings.Contains(line, "ISTIO_") {
			return line
		}
		for _, port := range []string{"15001", "15006", "15008"} {
			if strings.Contains(line, "--to-ports "+port) || strings.Contains(line, "--on-port "+port) || strings.Contains(line, "redirect to :"+port) {
				return line
			}
		}
	}
	return ""
}

// saver and restorer are the programs of a backend for a family.
func saver(b Backend, family string) string    { return programOf(b, family) + "-save" }
func restorer(b Backend, family string) string { return programOf(b, family) + "-restore" }

func programOf(b Backend, family string) string {
	if family == "ipv6" {
		return strings.Replace(string(b), "iptables", "ip6tables", 1)
	}
	return string(b)
}

// Choose picks the backend for Auto: the one that holds egret's rules, else what there is.
func (f *Firewall) Choose(ctx context.Context, b Backend) (Backend, error) {
	if b != Auto {
		return b, nil
	}
	found, err := f.Look(ctx)
	if err != nil {
		return "", err
	}
	if len(found.Backends) > 0 {
		return found.Backends[0], nil
	}
	if _, err := f.run.Run(ctx, "", "nft", "--version"); err == nil {
		return Nft, nil
	}
	return Iptables, nil
}

// Apply puts the plan's rules in force in place of those that are there: all of them or,
// on an error, none. Applying a plan twice is applying it once. It refuses to stand beside
// Istio's redirection, which takes the same connections, or beside rules of egret that
// another program holds.
func (f *Firewall) Apply(ctx context.Context, p *Plan) error {
	found, err := f.Look(ctx)
	if err != nil {
		return err
	}
	if found.Istio != "" {
		return fmt.Errorf("the redirection of Istio is here already (%q): nothing is changed; take the pod out of the mesh (sidecar.istio.io/inject: \"false\", istio.io/dataplane-mode: none), or lead its egress to egret as a forward proxy", clip(found.Istio))
	}
	for _, b := range found.Backends {
		if !sameRules(b, p.backend) {
			return fmt.Errorf("rules of egret are here already, by %s: remove them first (egret redirect remove), else connections would be redirected twice", b)
		}
	}
	if p.backend == Nft {
		_, err := f.run.Run(ctx, nftScript(p.rules), "nft", "-f", "-")
		return err
	}
	return f.applyIptables(ctx, p)
}

// sameRules reports whether two backends may hold the same rules: iptables is one of two.
func sameRules(a, b Backend) bool {
	return a == b || a != Nft && b == Iptables || a == Iptables && b != Nft
}

func (f *Firewall) applyIptables(ctx context.Context, p *Plan) error {
	families := []string{"ipv4", "ipv6"}
	if p.options.IPv4Only {
		families = families[:1]
	}
	for i, family := range families {
		err := f.restore(ctx, p, family)
		if err == nil {
			continue
		}
		for _, done := range families[:i] { // half a redirection is none
			err = errors.Join(err, f.clear(ctx, p.backend, done))
		}
		if family == "ipv6" {
			err = fmt.Errorf("%w (where there is no IPv6: --ipv4-only)", err)
		}
		return err
	}
	if p.options.IPv4Only {
		return f.clear(ctx, p.backend, "ipv6") // of an earlier plan
	}
	return nil
}

func (f *Firewall) restore(ctx context.Context, p *Plan, family string) error {
	save, err := f.run.Run(ctx, "", saver(p.backend, family))
	if err != nil {
		return err
	}
	script := iptablesScript(p.rules, family, missing(p.rules, family, save))
	_, err = f.run.Run(ctx, script, restorer(p.backend, family), "--noflush", "--wait", lockWait)
	return err
}

// lockWait is how many seconds another user of xtables is waited for.
const lockWait = "10"

// clear removes egret's rules of one family.
func (f *Firewall) clear(ctx context.Context, b Backend, family string) error {
	save, err := f.run.Run(ctx, "", saver(b, family))
	if errors.Is(err, ErrMissing) {
		return nil
	}
	if err != nil {
		return err
	}
	script := removal(save)
	if script == "" {
		return nil
	}
	_, err = f.run.Run(ctx, script, restorer(b, family), "--noflush", "--wait", lockWait)
	return err
}

// Remove takes every rule and chain of egret out, by whichever program it came in; with a
// backend, only those of that. It returns where there were any; removing nothing is no
// error.
func (f *Firewall) Remove(ctx context.Context, b Backend) ([]Backend, error) {
	found, err := f.Look(ctx)
	if err != nil {
		return nil, err
	}
	list := slices.DeleteFunc(found.Backends, func(has Backend) bool { return b != Auto && !sameRules(has, b) })
	for _, has := range list {
		if has == Nft {
			_, err = f.run.Run(ctx, nftRemoval(), "nft", "-f", "-")
		} else {
			err = errors.Join(f.clear(ctx, has, "ipv4"), f.clear(ctx, has, "ipv6"))
		}
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

func clip(s string) string {
	const most = 120
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
