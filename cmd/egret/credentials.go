// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/egret-proxy/egret/cmd/egret/internal/node"
	"github.com/egret-proxy/egret/internal/escape"
	"github.com/egret-proxy/egret/internal/ops"
)

// credentialsOptions are the flags of credentials.
type credentialsOptions struct {
	admin adminOptions
	out   output
	watch bool
	every time.Duration
}

func newCredentialsCommand() *cobra.Command {
	o := credentialsOptions{every: 2 * time.Second}
	cmd := &cobra.Command{
		Use:   "credentials",
		Short: "Show what a running egret holds: whose, how old, how long yet; never the values",
		Long: `Show the credentials that a running egret has in its cache, one line for each workload
and credential. The values themselves are never told.

STATE is fresh (served), refresh_due (served, a new one is being got), ending (a new one
is waited for), expired (not served), backoff (the issuer has failed and is not asked for
a while), none (not got yet). LEFT is for how long it may still be served. LAST ERROR is
why the last fetch failed, since the last that did not. FINGERPRINT is the same as in the
records, and where the SaaS has an identifier of its own for the token, that one.`,
		Example: "  egret credentials -c /etc/egret/egret.yaml\n  egret credentials --watch\n  egret credentials -o json | jq '.[] | select(.state != \"fresh\")'",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "show it again and again until interrupted")
	cmd.Flags().DurationVar(&o.every, "every", o.every, "how often, with --watch; at least 100ms")
	o.admin.flags(cmd)
	o.out.flag(cmd)
	return cmd
}

func (o *credentialsOptions) run(cmd *cobra.Command) error {
	if o.every < 100*time.Millisecond {
		return usagef("--every %s must be at least 100ms", o.every)
	}
	socket, err := o.admin.find()
	if err != nil {
		return err
	}
	tick := time.NewTicker(o.every)
	defer tick.Stop()
	for {
		var list []node.CredentialState
		if err := ops.Do(cmd.Context(), ops.Dial(socket), ops.Call{Method: http.MethodGet, Path: "/v1/credentials", Out: &list}); err != nil {
			return err
		}
		if err := o.print(cmd.OutOrStdout(), list); err != nil || !o.watch {
			return err
		}
		select {
		case <-tick.C:
		case <-cmd.Context().Done():
			return cmd.Context().Err()
		}
	}
}

// clearScreen puts the cursor at the top and clears what is below.
const clearScreen = "\x1b[H\x1b[J"

func (o *credentialsOptions) print(w io.Writer, list []node.CredentialState) error {
	if o.out.json() {
		return o.out.write(w, list)
	}
	if o.watch && isTerminal(w) {
		_, _ = io.WriteString(w, clearScreen)
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "no credential has been asked for yet")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "CREDENTIAL\tKIND\tWORKLOAD\tSTATE\tAGE\tLEFT\tUSED\tLAST ERROR\tFINGERPRINT")
	for _, c := range list {
		state := c.State
		if c.Fetching {
			state += ", fetching"
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", escape.Terminal(c.Credential), c.Kind,
			escape.Terminal(cmp.Or(c.Workload, "(all)")), state, dash(c.Age), dash(c.Remaining),
			ago(c.LastUsed), dash(c.LastError), escape.Terminal(dash(c.Fingerprint)))
	}
	return t.Flush()
}

func dash(s string) string { return cmp.Or(s, "-") }

func ago(t time.Time) string {
	return max(0, time.Since(t)).Round(time.Second).String() + " ago"
}
