// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/egret-proxy/egret/certs"
	"github.com/egret-proxy/egret/internal/escape"
)

// shownCert is one line of `egret ca show`. Its JSON form is part of the interface.
type shownCert struct {
	File        string    `json:"file"`
	Kind        string    `json:"kind"` // root, intermediate, leaf
	Subject     string    `json:"subject"`
	Serial      string    `json:"serial"`
	Names       []string  `json:"names"` // permitted (CA) or its own (leaf)
	NotBefore   time.Time `json:"notBefore"`
	NotAfter    time.Time `json:"notAfter"`
	Egret       bool      `json:"egret"` // an interception CA of egret
	Fingerprint string    `json:"fingerprint"`
}

func newCAShow() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "show FILE|DIR...",
		Short: "Say what certificates are for and how long they live",
		Long: `Say what certificates are for and how long they live. Of a folder every *.pem file is
shown; keys are never printed.`,
		Example: `  egret ca show ca/ issuer/
  egret ca show issuer/chain.pem -o json`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := shownCerts(args)
			if err != nil {
				return err
			}
			return printCerts(cmd.OutOrStdout(), list, output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

func shownCerts(paths []string) ([]shownCert, error) {
	var list []shownCert
	for _, path := range paths {
		files, err := pemFiles(path)
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			found, err := certs.ReadCertificates(f)
			if err != nil && f == path {
				return nil, err
			}
			for _, c := range found { // of a folder, files without certificates (keys) are left out
				list = append(list, shown(f, c))
			}
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no certificate in %q", paths)
	}
	return list, nil
}

func pemFiles(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".pem") {
			files = append(files, filepath.Join(path, e.Name()))
		}
	}
	return files, nil
}

func shown(file string, c *x509.Certificate) shownCert {
	sum := sha256.Sum256(c.Raw)
	s := shownCert{File: file, Kind: "leaf", Subject: c.Subject.String(), Serial: c.SerialNumber.Text(16), Names: c.DNSNames,
		NotBefore: c.NotBefore, NotAfter: c.NotAfter, Egret: certs.IsOurs(c), Fingerprint: "sha256:" + hex.EncodeToString(sum[:])}
	if c.IsCA {
		s.Kind, s.Names = "intermediate", c.PermittedDNSDomains
		if c.CheckSignatureFrom(c) == nil {
			s.Kind = "root"
		}
	}
	if s.Names == nil {
		s.Names = []string{}
	}
	return s
}

func printCerts(w io.Writer, list []shownCert, output string) error {
	switch output {
	case "json":
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(list)
	case "table":
		return printCertTable(w, list)
	}
	return fmt.Errorf("--output %q is not table or json", output)
}

func printCertTable(w io.Writer, list []shownCert) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, err := fmt.Fprintln(tw, "FILE\tKIND\tEGRET\tENDS\tLEFT\tNAMES\tSUBJECT")
	for _, c := range list {
		_, e := fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", escape.Terminal(c.File), c.Kind, yesNo(c.Egret), utcDay(c.NotAfter),
			timeLeft(time.Until(c.NotAfter)), escape.Terminal(someNames(c.Names)), escape.Terminal(c.Subject))
		err = errors.Join(err, e)
	}
	return errors.Join(err, tw.Flush())
}

// someNames keeps a line readable; -o json has all of them.
func someNames(names []string) string {
	const most = 4
	if len(names) == 0 {
		return "-"
	}
	if len(names) <= most {
		return strings.Join(names, ",")
	}
	return fmt.Sprintf("%s,... (%d)", strings.Join(names[:most], ","), len(names))
}

func timeLeft(d time.Duration) string {
	switch {
	case d <= 0:
		return "ended"
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
	return d.Truncate(time.Minute).String()
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
