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
	TProxy   bool      // they are those of TPROXY
	Meshes   []Mesh    // whose redirection is there too
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
			out.TProxy = out.TProxy || diverting(list[i], text)
		}
		out.Meshes = mergeMeshes(out.Meshes, findMeshes(text))
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
	four, err := f.run.Run(ctx, "", saver(b, familyV4))
	if err != nil {
		return "", err
	}
	six, err := f.run.Run(ctx, "", saver(b, familyV6))
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

func diverting(b Backend, dump string) bool {
	if b == Nft {
		return nftDiverts(dump)
	}
	return diverts(dump)
}

// saver and restorer are the programs of a backend for a family.
func saver(b Backend, family string) string    { return programOf(b, family) + "-save" }
func restorer(b Backend, family string) string { return programOf(b, family) + "-restore" }

func programOf(b Backend, family string) string {
	if family == familyV6 {
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
// the redirection of a mesh, which takes the same connections (MeshError), or beside rules
// of egret that another program holds.
func (f *Firewall) Apply(ctx context.Context, p *Plan) error {
	found, err := f.Look(ctx)
	if err != nil {
		return err
	}
	if len(found.Meshes) > 0 {
		return MeshError{found.Meshes[0]}
	}
	for _, b := range found.Backends {
		if !sameRules(b, p.backend) {
			return fmt.Errorf("rules of egret are here already, by %s: remove them first (egret redirect remove), else connections would be redirected twice", b)
		}
	}
	if !p.options.tproxy() {
		if err := f.applyRules(ctx, p); err != nil || !found.TProxy {
			return err
		}
		return f.dropAllRoutes(ctx) // of an earlier plan
	}
	undo, err := f.addRoutes(ctx, p) // first: a packet that is marked must find its way
	if err != nil {
		return err
	}
	if err := f.applyRules(ctx, p); err != nil {
		return errors.Join(err, undo())
	}
	if p.options.IPv4Only {
		return f.dropRoutes(ctx, familyV6) // of an earlier plan
	}
	return nil
}

func (f *Firewall) applyRules(ctx context.Context, p *Plan) error {
	if p.backend == Nft {
		_, err := f.run.Run(ctx, nftScript(p.rules, p.options.Mode), "nft", "-f", "-")
		return err
	}
	return f.applyIptables(ctx, p)
}

// sameRules reports whether two backends may hold the same rules: iptables is one of two.
func sameRules(a, b Backend) bool {
	return a == b || a != Nft && b == Iptables || a == Iptables && b != Nft
}

func (f *Firewall) applyIptables(ctx context.Context, p *Plan) error {
	families := p.options.families()
	for i, family := range families {
		err := f.restore(ctx, p, family)
		if err == nil {
			continue
		}
		for _, done := range families[:i] { // half a redirection is none
			err = errors.Join(err, f.clear(ctx, p.backend, done))
		}
		return familyError(err, family)
	}
	if p.options.IPv4Only {
		return f.clear(ctx, p.backend, familyV6) // of an earlier plan
	}
	return nil
}

func (f *Firewall) restore(ctx context.Context, p *Plan, family string) error {
	save, err := f.run.Run(ctx, "", saver(p.backend, family))
	if err != nil {
		return err
	}
	_, err = f.run.Run(ctx, iptablesScript(p, family, save), restorer(p.backend, family), "--noflush", "--wait", lockWait)
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

// Remove takes every rule, chain and route of egret out, by whichever program it came in;
// with a backend, only those of that. It returns where there were any; removing nothing is
// no error.
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
			err = errors.Join(f.clear(ctx, has, familyV4), f.clear(ctx, has, familyV6))
		}
		if err != nil {
			return nil, err
		}
	}
	if found.TProxy && len(list) > 0 || len(found.Backends) == 0 { // also what an Apply that was killed has left
		if err := f.dropAllRoutes(ctx); err != nil {
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
