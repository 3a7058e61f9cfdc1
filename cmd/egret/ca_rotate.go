// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/egret-proxy/egret/certs"
)

func newCARotate() *cobra.Command {
	var opt certs.RootOptions
	var dir, ttl string
	var promote, finish bool
	cmd := &cobra.Command{
		Use:   "rotate --root DIR [--promote | --finish]",
		Short: "Replace the root, old and new overlapping",
		Long: `Replace the root in three steps, so that no client ever meets a root that it does
not know yet:

  egret ca rotate            makes the next root and adds it to ca.pem. Make the files of
                             clients from it (egret ca bundle) and give them to every
                             client. The present root goes on signing.
  egret ca rotate --promote  the next root signs from now on, the old key is destroyed.
                             Issue every intermediate anew.
  egret ca rotate --finish   takes the old root out of ca.pem, once no intermediate of
                             it is in use. Make and give the files of clients again.`,
		Example: `  egret ca rotate --root ca/
  egret ca rotate --root ca/ --domains slack.com,github.com,datadoghq.com
  egret ca rotate --root ca/ --promote
  egret ca rotate --root ca/ --finish`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			switch w := cmd.OutOrStdout(); {
			case promote:
				return caPromote(w, dir)
			case finish:
				return caFinish(w, dir)
			default:
				if opt.TTL, err = parseTTL(ttl); err != nil {
					return err
				}
				return caRotate(w, dir, opt)
			}
		},
	}
	cmd.Flags().StringVar(&dir, "root", "", "folder of the root")
	cmd.Flags().StringSliceVar(&opt.Domains, "domains", nil, "domains of the next root (default: those of the present one)")
	cmd.Flags().StringVar(&ttl, "ttl", "365d", "life of the next root")
	cmd.Flags().BoolVar(&promote, "promote", false, "second step: let the next root sign")
	cmd.Flags().BoolVar(&finish, "finish", false, "third step: drop the old root")
	cmd.MarkFlagsMutuallyExclusive("promote", "finish")
	requireFlags(cmd, "root")
	return cmd
}

func caRotate(w io.Writer, dir string, opt certs.RootOptions) error {
	next, err := certs.RootDir(dir).Rotate(opt)
	if err != nil {
		return withHint(err, "a rotation is under way; go on with: egret ca rotate --promote")
	}
	return sayf(w, `made the next root for %[1]s, until %[2]s
  %[3]s now holds both roots

next: egret ca bundle --ca %[3]s --out trust/, give trust/ to every client, and when all
have it: egret ca rotate --root %[4]s --promote
`, strings.Join(next.Certificate().PermittedDNSDomains, ", "), utcDay(next.Certificate().NotAfter), filepath.Join(dir, "ca.pem"), dir)
}

func caPromote(w io.Writer, dir string) error {
	if err := certs.RootDir(dir).Promote(); err != nil {
		return err
	}
	return sayf(w, `the next root signs now, the old key is destroyed

next: issue every intermediate anew (egret ca issue --replace); when they are in use
everywhere: egret ca rotate --root %s --finish
`, dir)
}

func caFinish(w io.Writer, dir string) error {
	if err := certs.RootDir(dir).Finish(); err != nil {
		return err
	}
	return sayf(w, `the old root is out of %[1]s

next: egret ca bundle --ca %[1]s --out trust/, and give trust/ to every client
`, filepath.Join(dir, "ca.pem"))
}
