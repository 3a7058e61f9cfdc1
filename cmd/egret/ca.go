// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/egret-proxy/egret/certs"
)

// newCACommand makes `egret ca` and its verbs.
func newCACommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "ca",
		Short: "Make and rotate the interception CA",
		Long: `Make and rotate the CA whose certificates egret shows to its clients.

The root belongs to one installation, is limited to your organisation's destinations
and stays off the machines that serve. From it you issue intermediates, each limited
to at most 100 hosts; only these go to a node.`,
		Example: `  egret ca init --domains slack.com,github.com --out ca/
  egret ca issue --root ca/ --host slack.com --host api.github.com --out issuer/
  egret ca show issuer/`,
	})
	cmd.AddCommand(newCAInit(), newCAIssue(), newCAShow(), newCARotate(), newCABundle())
	return cmd
}

func newCAInit() *cobra.Command {
	var opt certs.RootOptions
	var out, ttl string
	cmd := &cobra.Command{
		Use:   "init --domains DOMAIN,... --out DIR",
		Short: "Make a root",
		Long: `Make a root that may speak for the given domains and what is below them, and for
nothing else. Existing files are never overwritten.`,
		Example: `  egret ca init --domains slack.com,github.com,acme.example --organization "Acme QA" --out ca/`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if opt.TTL, err = parseTTL(ttl); err != nil {
				return err
			}
			return caInit(cmd.OutOrStdout(), opt, out)
		},
	}
	cmd.Flags().StringSliceVar(&opt.Domains, "domains", nil, "domains of all destinations, as broad as the organisation needs")
	cmd.Flags().StringVar(&opt.Organization, "organization", "", "name shown in trust stores (default egret)")
	cmd.Flags().StringVar(&out, "out", "", "folder to make")
	cmd.Flags().StringVar(&ttl, "ttl", "365d", "life of the root, at most 732d")
	requireFlags(cmd, "domains", "out")
	return cmd
}

func caInit(w io.Writer, opt certs.RootOptions, out string) error {
	root, err := certs.NewRoot(opt)
	if err != nil {
		return err
	}
	if err := certs.RootDir(out).Init(root); err != nil {
		return withHint(err, "a root is replaced with: egret ca rotate --root "+out)
	}
	return sayf(w, `made a root for %s, until %s
  %s  certificate and key: keep it off the machines that serve
  %s    what clients must trust

next: egret ca issue --root %s --host HOST --out issuer/
`, strings.Join(root.Certificate().PermittedDNSDomains, ", "), utcDay(root.Certificate().NotAfter),
		filepath.Join(out, "root.pem"), filepath.Join(out, "ca.pem"), out)
}

type issueOptions struct {
	root, out, ttl string
	hosts          []string
	replace        bool
}

func newCAIssue() *cobra.Command {
	var opt issueOptions
	cmd := &cobra.Command{
		Use:   "issue --root DIR --host HOST... --out DIR",
		Short: "Make an intermediate for up to 100 hosts",
		Long: `Make an intermediate that a node signs leaves with. It may speak for the given hosts
only. A name constraint is a subtree: "slack.com" and "*.slack.com" both permit
slack.com and everything below; that leaves are made for exactly the hosts of your
policy is held by egret itself.

It lives a day unless --ttl says otherwise. To renew, run the same command with
--replace: a running egret takes the new files up by itself.`,
		Example: `  egret ca issue --root ca/ --host slack.com --host '*.github.com' --out issuer/
  egret ca issue --root ca/ --host slack.com --out issuer/ --ttl 30d --replace`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return caIssue(cmd.OutOrStdout(), opt) },
	}
	cmd.Flags().StringVar(&opt.root, "root", "", "folder of the root (egret ca init)")
	cmd.Flags().StringArrayVar(&opt.hosts, "host", nil, "host that leaves may be made for (repeat, at most 100)")
	cmd.Flags().StringVar(&opt.out, "out", "", "folder for chain.pem and key.pem")
	cmd.Flags().StringVar(&opt.ttl, "ttl", "24h", "life of the intermediate, at most 90d")
	cmd.Flags().BoolVar(&opt.replace, "replace", false, "replace the files of an earlier intermediate")
	requireFlags(cmd, "root", "host", "out")
	return cmd
}

func caIssue(w io.Writer, opt issueOptions) error {
	ttl, err := parseTTL(opt.ttl)
	if err != nil {
		return err
	}
	root, err := certs.RootDir(opt.root).Root()
	if err != nil {
		return withHint(err, "make a root with: egret ca init")
	}
	ca, err := root.Intermediate(certs.IntermediateOptions{Hosts: opt.hosts, TTL: ttl})
	if err != nil {
		return err
	}
	chain, key := filepath.Join(opt.out, "chain.pem"), filepath.Join(opt.out, "key.pem")
	if err := writeIntermediate(ca, certs.IssuerFile{Chain: chain, Key: key}, opt.replace); err != nil {
		return withHint(err, "renew with: --replace")
	}
	end := ca.Certificate().NotAfter
	return sayf(w, `made an intermediate for %s, until %s
  %s
  %s  give it to egret's user and to nobody else

next, in egret.yaml:
  certs: {issuer: {file: [{chain: %s, key: %s}]}}
renew before %s: the same command with --replace
`, strings.Join(ca.Certificate().PermittedDNSDomains, ", "), utcMinute(end), chain, key, chain, key,
		utcMinute(end.Add(-time.Until(end)/2)))
}

// writeIntermediate writes the key first: a reload between the two finds that they do
// not belong together and keeps what it has.
func writeIntermediate(ca *certs.CA, f certs.IssuerFile, replace bool) error {
	put := certs.WriteNew
	if replace {
		put = certs.WriteFile
	}
	key, err := ca.EncodeKey()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(f.Key), 0o700); err != nil {
		return err
	}
	if err := put(f.Key, key, 0o600); err != nil {
		return err
	}
	return put(f.Chain, ca.EncodeChain(), 0o644)
}

// maxDays is the longest life of anything here, that of a root.
const maxDays = uint64(certs.MaxRootTTL / (24 * time.Hour))

// parseTTL is time.ParseDuration, which knows no days, with days: "30d".
func parseTTL(s string) (time.Duration, error) {
	if n, ok := strings.CutSuffix(s, "d"); ok {
		days, err := strconv.ParseUint(n, 10, 16)
		if err == nil && days > maxDays {
			return 0, fmt.Errorf("--ttl %q is too long: a root lives at most 732d, an intermediate at most 90d", s)
		}
		if err == nil && days > 0 {
			return time.Duration(days) * 24 * time.Hour, nil
		}
	}
	ttl, err := time.ParseDuration(s)
	if err != nil || ttl <= 0 {
		return 0, fmt.Errorf("--ttl %q is not a lifetime (write it as 24h or 30d)", s)
	}
	return ttl, nil
}

// withHint adds a way out where a file is there that must not be, or is not where it
// must be.
func withHint(err error, hint string) error {
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w (%s)", err, hint)
	}
	return err
}

func sayf(w io.Writer, format string, args ...any) error {
	_, err := fmt.Fprintf(w, format, args...)
	return err
}

func utcDay(t time.Time) string    { return t.UTC().Format(time.DateOnly) }
func utcMinute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// requireFlags marks flags as required. An unknown name is a fault of this file.
func requireFlags(cmd *cobra.Command, flags ...string) {
	for _, f := range flags {
		if err := cmd.MarkFlagRequired(f); err != nil {
			panic(err)
		}
	}
}
