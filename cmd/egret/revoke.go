// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/egret-proxy/egret/cmd/egret/internal/node"
	"github.com/egret-proxy/egret/internal/escape"
	"github.com/egret-proxy/egret/internal/ops"
)

// revokeOptions are the flags of revoke.
type revokeOptions struct {
	admin adminOptions
	out   output
	ask   node.RevokeRequest
	list  bool
	lift  int
}

func newRevokeCommand() *cobra.Command {
	var o revokeOptions
	cmd := &cobra.Command{
		Use:   "revoke",
		Short: "Take a workload, credential or policy away, now",
		Long: `Take a workload, a caller, a credential or a policy away from a running egret, now.

From the moment that the call returns, requests that need it are refused with
policy/revoked, running ones and streams are cut, cached values are dropped, and those
whose issuer can end a token before its time (GitHub, Vault, RFC 7009) are ended there.

It holds until it is lifted, through reloads of policy, and through restarts where
admin.revocations names a file. It is for the first minute: change the policy next, then
lift it. With --once nothing is held: what there is ends, and new values may be got at once.

Each node has its own egret: run it on every node that serves the workload.`,
		Example: `  egret revoke --workload nightly-dashboard --reason "INC-4711, laptop lost"
  egret revoke --credential slack-bot
  egret revoke --credential github-reader --once       new tokens for everybody
  egret revoke --list
  egret revoke --lift 3`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&o.ask.Workload, "workload", "", "all callers of this workload")
	f.StringVar(&o.ask.ID, "id", "", "the caller with this SPIFFE ID")
	f.StringVar(&o.ask.Credential, "credential", "", "all requests that get this credential")
	f.StringVar(&o.ask.Policy, "policy", "", "all that this AccessPolicy grants")
	f.StringVar(&o.ask.Reason, "reason", "", "why, for the record and for who lifts it")
	f.BoolVar(&o.ask.Once, "once", false, "end what there is, and hold nothing")
	f.BoolVar(&o.list, "list", false, "show what is revoked")
	f.IntVar(&o.lift, "lift", 0, "lift the revocation of this number")
	cmd.MarkFlagsMutuallyExclusive("workload", "id", "credential", "policy", "list", "lift")
	cmd.MarkFlagsOneRequired("workload", "id", "credential", "policy", "list", "lift")
	o.admin.flags(cmd)
	o.out.flag(cmd)
	return cmd
}

func (o *revokeOptions) run(cmd *cobra.Command) error {
	socket, err := o.admin.find()
	if err != nil {
		return err
	}
	defer slow(cmd.ErrOrStderr(), "waiting for the egret at %s", socket)()
	call := func(method, path string, in, out any) error {
		return plain(ops.Do(cmd.Context(), ops.Dial(socket), ops.Call{Method: method, Path: "/v1/revocations" + path, In: in, Out: out}))
	}
	w := cmd.OutOrStdout()
	switch {
	case o.list:
		var list []node.Revocation
		if err := call(http.MethodGet, "", nil, &list); err != nil {
			return err
		}
		return o.show(w, list, func() { printRevocations(w, list) })
	case cmd.Flags().Changed("lift"):
		var r node.Revocation
		if err := call(http.MethodDelete, "/"+strconv.Itoa(o.lift), nil, &r); err != nil {
			return err
		}
		return o.show(w, r, func() { _, _ = fmt.Fprintf(w, "lifted %d: %s\n", r.Number, escape.Terminal(r.Subject())) })
	}
	var r node.Revoked
	if err := call(http.MethodPost, "", o.ask, &r); err != nil {
		return err
	}
	if err := o.show(w, r, func() { printRevoked(w, r) }); err != nil {
		return err
	}
	return o.outcome(cmd.ErrOrStderr(), r)
}

// plain is what egret says of a mistake in the question, without the status of its answer.
func plain(err error) error {
	var c *ops.CallError
	if errors.As(err, &c) && c.Status/100 == 4 {
		return errors.New(c.Message)
	}
	return err
}

// show prints v for machines, or has it printed for people.
func (o *revokeOptions) show(w io.Writer, v any, people func()) error {
	if o.out.json() {
		return o.out.write(w, v)
	}
	people()
	return nil
}

// outcome is not a success where something lives on that should not.
func (o *revokeOptions) outcome(w io.Writer, r node.Revoked) error {
	if r.Warning != "" {
		_, _ = fmt.Fprintln(w, "egret: warning: "+escape.Terminal(r.Warning))
	}
	if r.Failed == 0 {
		return nil
	}
	_, _ = fmt.Fprintf(w, "egret: %s could not be ended at the issuer: no request gets it any more, but end it there yourself\n", count(r.Failed, "value"))
	return exitCode(exitFailed)
}

func printRevoked(w io.Writer, r node.Revoked) {
	name := "ended"
	if !r.Once {
		name = fmt.Sprintf("revoked %d:", r.Revocation.Number)
	}
	_, _ = fmt.Fprintf(w, "%s %s, %s\n", name, escape.Terminal(r.Revocation.Subject()), r.Until)
	_, _ = fmt.Fprintf(w, "denied after %s; %s cut\n", r.Denied, count(r.Cut, "stream"))
	_, _ = fmt.Fprintf(w, "%s dropped, %d ended at the issuer", count(r.Dropped, "value"), r.Ended)
	if r.Lasting > 0 {
		_, _ = fmt.Fprintf(w, ", %d whose issuer cannot end them: change them there", r.Lasting)
	}
	_, _ = fmt.Fprintf(w, "; %s in all\n", r.Took)
}

func printRevocations(w io.Writer, list []node.Revocation) {
	if len(list) == 0 {
		_, _ = fmt.Fprintln(w, "nothing is revoked by hand")
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "NUMBER\tWHAT\tSINCE\tBY UID\tREASON")
	for _, r := range list {
		_, _ = fmt.Fprintf(t, "%d\t%s\t%s\t%d\t%s\n", r.Number, escape.Terminal(r.Subject()), r.At.Format(time.RFC3339), r.UID, escape.Terminal(r.Reason))
	}
	_ = t.Flush()
}
