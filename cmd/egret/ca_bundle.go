// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/egret-proxy/egret/certs"
	"github.com/egret-proxy/egret/internal/launch"
)

func newCABundle() *cobra.Command {
	var ca, out, system string
	cmd := &cobra.Command{
		Use:   "bundle --ca FILE --out DIR",
		Short: "Write the trust files that clients need",
		Long: `Write the trust files for clients into a folder:

  bundle.pem  system roots and egret's: for variables that replace (SSL_CERT_FILE,
              REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, GIT_SSL_CAINFO, AWS_CA_BUNDLE, ...)
  ca.pem      egret's alone: for variables that add (NODE_EXTRA_CA_CERTS, DENO_CERT)
  trust.p12   as bundle.pem, for Java (password "changeit")
  php.ini     as bundle.pem, for PHP_INI_SCAN_DIR
  wgetrc      as bundle.pem, for WGETRC

Each file is replaced as a whole.`,
		Example: `  egret ca bundle --ca ca/ca.pem --out trust/`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return caBundle(cmd.OutOrStdout(), ca, out, system)
		},
	}
	cmd.Flags().StringVar(&ca, "ca", "", "PEM file with egret's roots")
	cmd.Flags().StringVar(&out, "out", "", "folder to write to")
	cmd.Flags().StringVar(&system, "system", "", "PEM file to use in place of the system's roots")
	requireFlags(cmd, "ca", "out")
	return cmd
}

func caBundle(w io.Writer, ca, out, system string) error {
	roots, err := certs.ReadCertificates(ca)
	if err != nil {
		return err
	}
	base, from, err := systemRoots(system)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil { //nolint:gosec // certificates are for every program of the machine
		return err
	}
	f, err := launch.WriteTrust(out, launch.Trust{System: base, Roots: roots})
	if err != nil {
		return err
	}
	return sayf(w, `wrote %s of egret and those of %s
  %s
  %s
  %s
  %s

next: egret exec sets the variables for you, or: SSL_CERT_FILE=%s
`, count(len(roots), "root"), from, f.Bundle(), f.CA(), f.TrustStore(), f.PHPIni(), f.Bundle())
}

func systemRoots(file string) (text []byte, from string, err error) {
	if file == "" {
		return certs.SystemRoots()
	}
	list, err := certs.ReadCertificates(file)
	return certs.EncodeCertificates(list...), file, err
}
