// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os/user"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/egret-proxy/egret/cmd/egret/internal/steering"
	"github.com/egret-proxy/egret/internal/escape"
	"github.com/egret-proxy/egret/internal/ops"
)

// steerFlags are those of steer.
type steerFlags struct {
	socket, control, namespaces, cri, state, user string
	max                                           int
	keepCaps                                      []string
	redirect                                      redirectFlags
}

func newSteerCommand() *cobra.Command {
	var f steerFlags
	cmd := &cobra.Command{
		Use:   "steer",
		Short: "Lead the connections of pods to one egret on the node, without sidecars",
		Long: `Lead the outgoing TCP connections of pods, or of any network namespaces, to the one
egret run of this node. It is the privileged half of node mode (CAP_SYS_ADMIN and
CAP_NET_ADMIN, the rest is dropped at start): it opens listening sockets inside the
namespaces, installs the redirect rules there, and passes the sockets over --socket to
egret run, which needs no privilege and is the only one that holds credentials.

In egret.yaml: {name: pods, kind: transparent, address: "steer:///run/egret-steer/steer.sock",
identify: {process: {attestor: delegated}}}.

Pods are told by the CNI plugin: this program, installed under the name egret-cni and put
last in the conflist, so that no pod starts uncaptured. The container runtime's list
(--cri) adds those that were there before; by itself it finds a new pod within a second,
in which the pod may call uncaptured. Its socket is as good as root on the node: it is
read only, and never given to egret run. Without Kubernetes, pods are the network
namespaces that are mounted in a folder (--namespaces).

Both processes may be restarted at any time, and so may the container runtime: open
connections go on, new ones wait. Ended, egret steer leaves the rules in place, so that
nothing leaves uncaptured; a pod that is steered no more (its file is gone, CNI DEL) gets
them removed.

Pods in the host's network are refused: they cannot be told apart.`,
		Example: `  egret steer --user egret --namespaces /run/netns
  egret steer --user egret                        pods come by the CNI plugin
  egret steer --user egret --cri unix:///run/containerd/containerd.sock
  egret steer list`,
		Args: steerArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.socket, "socket", "/run/egret-steer/steer.sock", "where egret run is given sockets")
	fl.StringVar(&f.control, "control", steering.DefaultControl, "where the CNI plugin asks; root only; empty: nowhere")
	fl.StringVar(&f.state, "state", "/run/egret-steer/pods", "folder for what the CNI plugin and the container runtime have told; on a tmpfs")
	fl.StringVar(&f.cri, "cri", "", "socket of the container runtime (CRI v1), whose pods are steered: unix:///run/containerd/containerd.sock, unix:///run/crio/crio.sock")
	fl.StringVar(&f.namespaces, "namespaces", "", "folder of mounted network namespaces that are steered")
	fl.StringVar(&f.user, "user", defaultRedirectUser, "user of egret run, by name or number")
	fl.IntVar(&f.max, "max", 1024, "most namespaces")
	fl.StringSliceVar(&f.keepCaps, "keep-cap", nil, "further capabilities: net_raw (for iptables-legacy), sys_ptrace (for /proc/PID/ns/net of other users)")
	cmd.MarkFlagsMutuallyExclusive("namespaces", "cri") // each pod would be found twice, under two names
	f.redirect.addCapture(cmd, 8651)
	fl.Lookup("mode").Usage = "redirect, or tproxy, which keeps both addresses; egret.yaml is the same for both"
	fl.Lookup("port").Usage = "port of the sockets that are opened inside each namespace, on 127.0.0.1 and ::1"
	cmd.AddCommand(newSteerList())
	return cmd
}

func newSteerList() *cobra.Command {
	var control string
	var out output
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "Show the pods that a running egret steer knows, and whether egret run serves them",
		Example: "  egret steer list",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var pods []steering.Pod
			var sources []steering.Source
			ask := ops.Dial(control)
			for path, to := range map[string]any{"/v1/pods": &pods, "/v1/sources": &sources} {
				if err := ops.Do(cmd.Context(), ask, ops.Call{Method: http.MethodGet, Path: path, Out: to}); err != nil {
					return steerError(err)
				}
			}
			if out.json() {
				return out.write(cmd.OutOrStdout(), pods)
			}
			return errors.Join(printPods(cmd.OutOrStdout(), pods), printSources(cmd.OutOrStdout(), sources))
		},
	}
	cmd.Flags().StringVar(&control, "control", steering.DefaultControl, "control socket of egret steer")
	out.flag(cmd)
	return cmd
}

// steerArgs takes none, and knows what is looked for most.
func steerArgs(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case strings.HasSuffix(args[0], "cni"):
		return usagef("%q is not a command of %s: the CNI plugin is this program under the name egret-cni", args[0], cmd.CommandPath())
	}
	return usagef("%q is not a command of %s; there is: list", args[0], cmd.CommandPath())
}

// steerError puts what package ops says of egret run's socket into the words of this one.
func steerError(err error) error {
	var dial *ops.DialError
	switch {
	case !errors.As(err, &dial):
		return err
	case errors.Is(dial.Err, fs.ErrPermission):
		return fmt.Errorf("the control socket %q may not be opened by this user: run as root", dial.Socket)
	}
	return fmt.Errorf("no egret steer answers on %q: is it running? (systemctl status egret-steer)", dial.Socket)
}

func printPods(w io.Writer, pods []steering.Pod) error {
	if len(pods) == 0 {
		_, err := fmt.Fprintln(w, "no pod is steered")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "KEY\tPOD\tNETNS\tSTATE\tERROR")
	for _, p := range pods {
		name := "-"
		if p.Name != "" {
			name = p.Namespace + "/" + p.Name
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\n", escape.Terminal(p.Key), escape.Terminal(name), p.NetNS, p.State, escape.Terminal(dash(p.Error)))
	}
	return t.Flush()
}

// printSources tells of each whether it is in step.
func printSources(w io.Writer, sources []steering.Source) error {
	for _, s := range sources {
		if _, err := fmt.Fprintf(w, "%s %s: %s\n", s.Kind, escape.Terminal(s.Address), escape.Terminal(standing(s))); err != nil {
			return err
		}
	}
	return nil
}

func standing(s steering.Source) string {
	since := s.Since.UTC().Format(time.RFC3339)
	switch {
	case s.Away():
		return fmt.Sprintf("away since %s, what is captured stays so, new pods are not found: %s", since, s.Error)
	case s.State == "events":
		return fmt.Sprintf("in step with %s since %s, looked at on its events and every %gs", s.Runtime, since, s.Every)
	}
	return fmt.Sprintf("in step with %s since %s, looked at every %gs", s.Runtime, since, s.Every)
}

// uid is that of egret run, which must not be the one that enters namespaces.
func (f *steerFlags) uid() (int, error) {
	if n, err := strconv.ParseUint(f.user, 10, 31); err == nil {
		return int(n), nil
	}
	u, err := user.Lookup(f.user)
	if err != nil {
		return 0, usageError{fmt.Errorf("--user %q is not a user here: name egret's user by its number (id -u), or make the user", f.user)}
	}
	n, err := strconv.Atoi(u.Uid)
	if err != nil {
		return 0, errors.New("--user has no number")
	}
	return n, nil
}
