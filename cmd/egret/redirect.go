// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os/user"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/egret-proxy/egret/internal/redirect"
)

// redirectFlags are those of print and apply.
type redirectFlags struct {
	backend      backendFlag
	mode         modeFlag
	port         uint16
	uid          string
	mark         uint32
	includePorts []string
	excludePorts []string
	excludeCIDRs []string
	ipv4Only     bool
	out          output
}

// defaultRedirectUser is the user of deploy/systemd and of the images.
const defaultRedirectUser = "egret"

func newRedirectCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "redirect",
		Short: "Lead programs that know of no proxy to egret",
		Long: `Lead the outgoing TCP connections of this network namespace to egret's transparent
listeners (kind: transparent), for programs that read no proxy variable.

The rules are in chains of their own (EGRET_...) or, with nft, in the table "inet egret".
They leave alone: loopback, DNS, egret's own user, and what you exclude. UDP to port 443
is refused, so that QUIC falls back to TCP. While egret is not running, captured
connections fail: nothing leaves past it.

--mode says how connections get to egret:

  redirect  The kernel replaces the destination (NAT) and tells egret what it was. Needs
            CAP_NET_ADMIN here, egret itself needs nothing. Where a program has the same
            local port towards two destinations, the kernel gives one of the connections
            another: egret still serves it, but a listener that identifies by process
            cannot find its program, and refuses it (identity/port_rewritten).
  tproxy    Packets keep both addresses: they are marked, routed to loopback by a table of
            egret's, and handed to a listener that has tproxy: true. No NAT, the original
            destination is the connection's own address, and every program is found. Needs
            the program ip too; and egret run needs CAP_NET_ADMIN at its start, to set
            IP_TRANSPARENT (AmbientCapabilities=CAP_NET_ADMIN), or a socket of systemd's
            with Transparent=yes, with which it needs nothing. When the rules are taken
            out, captured connections that are open end.`,
		Example: `  egret redirect print --uid 64535
  egret redirect apply --uid 64535
  egret redirect apply --uid 64535 --mode tproxy
  egret redirect remove`,
	})
	cmd.AddCommand(newRedirectPrint(), newRedirectApply(), newRedirectRemove())
	return cmd
}

func newRedirectPrint() *cobra.Command {
	var f redirectFlags
	cmd := &cobra.Command{
		Use:   "print",
		Short: "Show the rules, with the reason of each, and change nothing",
		Example: `  egret redirect print --uid 14650
  egret redirect print --backend nft --exclude-cidr 10.0.0.0/8 -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.backend == backendFlag(redirect.Auto) { // without privileges nothing can be looked at
				f.backend = backendFlag(redirect.Nft)
			}
			p, err := f.plan(redirect.Backend(f.backend))
			if err != nil {
				return err
			}
			if f.out.json() {
				return f.out.write(cmd.OutOrStdout(), shownPlan(p))
			}
			_, err = io.WriteString(cmd.OutOrStdout(), p.String())
			return err
		},
	}
	f.add(cmd)
	return cmd
}

func newRedirectApply() *cobra.Command {
	var f redirectFlags
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Put the rules in force, all of them or none",
		Long: `Put the rules in force, all of them or none, in place of rules of egret that are there:
applying twice is applying once. Connections that are open already go on until they end,
where the kernel tracked connections here before (conntrack: any rule that uses it, or
NAT); elsewhere they cannot be told from new ones, and are reset.

It refuses where a service mesh (Istio's sidecar or ambient mode, Linkerd) redirects the
same connections: each side would take those of the other's proxy.`,
		Example: "  egret redirect apply --uid egret --exclude-cidr 10.96.0.0/12",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := f.plan(redirect.Nft); err != nil { // before anything is asked for privileges
				return err
			}
			if err := redirect.Privileged(); err != nil {
				return err
			}
			fw := redirect.NewFirewall(redirect.NewRunner())
			b, err := fw.Choose(cmd.Context(), redirect.Backend(f.backend))
			if err != nil {
				return err
			}
			p, err := f.plan(b)
			if err != nil {
				return err
			}
			if err := fw.Apply(cmd.Context(), p); err != nil {
				return err
			}
			return f.applied(cmd.OutOrStdout(), p)
		},
	}
	f.add(cmd)
	return cmd
}

func newRedirectRemove() *cobra.Command {
	backend, out := backendFlag(redirect.Auto), output("")
	cmd := &cobra.Command{
		Use:     "remove",
		Short:   "Take every rule of egret out, and nothing else",
		Example: "  egret redirect remove",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := redirect.Privileged(); err != nil {
				return err
			}
			removed, err := redirect.NewFirewall(redirect.NewRunner()).Remove(cmd.Context(), redirect.Backend(backend))
			if err != nil {
				return err
			}
			return printRemoved(cmd.OutOrStdout(), removed, out)
		},
	}
	cmd.Flags().Var(&backend, "backend", "auto, nft, iptables, iptables-legacy or iptables-nft")
	out.flag(cmd)
	return cmd
}

func (f *redirectFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	f.addCapture(cmd, 8650)
	fl.StringVar(&f.uid, "uid", defaultRedirectUser, "egret's user, by name or number, whose connections are left alone; none: by --mark only")
	fl.Uint32Var(&f.mark, "mark", 0, "firewall mark of connections that are left alone (upstream.mark of egret.yaml)")
	f.out.flag(cmd)
}

// addCapture adds the flags that say what is captured, and by which program.
func (f *redirectFlags) addCapture(cmd *cobra.Command, port uint16) {
	f.backend, f.mode = backendFlag(redirect.Auto), modeFlag(redirect.Redirect)
	fl := cmd.Flags()
	fl.Var(&f.backend, "backend", "auto, nft, iptables, iptables-legacy or iptables-nft")
	fl.Var(&f.mode, "mode", "redirect, or tproxy for listeners that have tproxy: true")
	fl.Uint16Var(&f.port, "port", port, "port of the transparent listeners, on 127.0.0.1 and ::1")
	fl.StringSliceVar(&f.includePorts, "include-port", []string{"443", "80"}, "TCP ports that are captured; all: every one but DNS")
	fl.StringSliceVar(&f.excludePorts, "exclude-port", nil, "TCP ports that are left alone")
	fl.StringSliceVar(&f.excludeCIDRs, "exclude-cidr", nil, "ranges of addresses that are left alone")
	fl.BoolVar(&f.ipv4Only, "ipv4-only", false, "leave IPv6 alone, where there is none")
}

// plan makes the rules of the flags. Every flag that is wrong is told at once.
func (f *redirectFlags) plan(b redirect.Backend) (*redirect.Plan, error) {
	o, err := f.options()
	uid, uidErr := uidOf(f.uid)
	if err := errors.Join(uidErr, err); err != nil {
		return nil, usageError{err}
	}
	o.UID, o.Mark = uid, f.mark
	p, err := redirect.New(b, o)
	if err != nil {
		return nil, usageError{err}
	}
	return p, nil
}

// options are what the flags of addCapture say.
func (f *redirectFlags) options() (redirect.Options, error) {
	o := redirect.Options{Mode: redirect.Mode(f.mode), Port: f.port, IPv4Only: f.ipv4Only}
	var errs [3]error
	if !isAll(f.includePorts) {
		o.IncludePorts, errs[0] = portsOf("--include-port", f.includePorts)
	}
	o.ExcludePorts, errs[1] = portsOf("--exclude-port", f.excludePorts)
	o.ExcludeCIDRs, errs[2] = cidrsOf(f.excludeCIDRs)
	if err := errors.Join(errs[:]...); err != nil {
		return o, usageError{err}
	}
	return o, nil
}

func isAll(list []string) bool { return len(list) == 1 && list[0] == "all" }

// uidOf reads a user's name or number. A number need not have a name: in a container it
// seldom has.
func uidOf(s string) (int64, error) {
	if s == "none" {
		return redirect.NoUID, nil
	}
	if n, err := strconv.ParseUint(s, 10, 32); err == nil {
		return int64(n), nil
	}
	u, err := user.Lookup(s)
	if err != nil {
		return 0, fmt.Errorf("--uid %q is not a user here: name egret's user by its number (id -u), or make the user", s)
	}
	return strconv.ParseInt(u.Uid, 10, 64)
}

func portsOf(flag string, list []string) ([]uint16, error) {
	if len(list) == 0 && flag == "--include-port" {
		return nil, errors.New("--include-port must name at least one port, or all")
	}
	var out []uint16
	for _, s := range list {
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("%s %q must be a port from 1 to 65535", flag, s)
		}
		out = append(out, uint16(n))
	}
	return out, nil
}

func cidrsOf(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("--exclude-cidr %q must be a range of addresses, such as 10.96.0.0/12", s)
		}
		out = append(out, p)
	}
	return out, nil
}

// shownRedirect is the JSON form of a plan; it is part of the interface.
type shownRedirect struct {
	Backend redirect.Backend `json:"backend"`
	Mode    redirect.Mode    `json:"mode"`
	Rules   []redirect.Rule  `json:"rules"`
}

func shownPlan(p *redirect.Plan) shownRedirect {
	return shownRedirect{Backend: p.Backend(), Mode: p.Mode(), Rules: p.Rules()}
}

func (f *redirectFlags) applied(w io.Writer, p *redirect.Plan) error {
	if f.out.json() {
		return f.out.write(w, shownPlan(p))
	}
	what := "TCP to port " + strings.Join(f.includePorts, ", ")
	if isAll(f.includePorts) {
		what = "all TCP but DNS"
	}
	_, err := fmt.Fprintf(w, "%s is led to port %d (%s, %s, %s)\n", what, f.port, p.Backend(), p.Mode(), count(len(p.Rules()), "rule"))
	return err
}

func printRemoved(w io.Writer, removed []redirect.Backend, out output) error {
	if out.json() {
		return out.write(w, map[string]any{"removed": append([]redirect.Backend{}, removed...)})
	}
	text := "nothing of egret was there\n"
	if len(removed) > 0 {
		names := make([]string, 0, len(removed))
		for _, b := range removed {
			names = append(names, string(b))
		}
		text = "removed from " + strings.Join(names, " and ") + "\n"
	}
	_, err := io.WriteString(w, text)
	return err
}

// backendFlag is the flag --backend.
type backendFlag redirect.Backend

// String implements pflag.Value.
func (b *backendFlag) String() string { return string(*b) }

// Set implements pflag.Value.
func (b *backendFlag) Set(s string) error {
	for _, known := range redirect.Backends() {
		if s == string(known) {
			*b = backendFlag(known)
			return nil
		}
	}
	return errors.New("must be auto, nft, iptables, iptables-legacy or iptables-nft")
}

// Type implements pflag.Value.
func (b *backendFlag) Type() string { return "program" }

// modeFlag is the flag --mode.
type modeFlag redirect.Mode

// String implements pflag.Value.
func (m *modeFlag) String() string { return string(*m) }

// Set implements pflag.Value.
func (m *modeFlag) Set(s string) error {
	for _, known := range redirect.Modes() {
		if s == string(known) {
			*m = modeFlag(known)
			return nil
		}
	}
	return errors.New("must be redirect or tproxy")
}

// Type implements pflag.Value.
func (m *modeFlag) Type() string { return "way" }
