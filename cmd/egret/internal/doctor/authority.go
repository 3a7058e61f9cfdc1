// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"crypto/x509"
	"fmt"
	"os"
	"slices"

	"github.com/egret-proxy/egret/certs"
)

// authority looks at the CA that egret signs with.
func (e *examination) authority() {
	c := e.Config.Certs.Issuer
	if c.Ephemeral != nil {
		if c.Ephemeral.Bundle == "" {
			e.bad(Warn, "CA", "set certs.issuer.ephemeral.bundle to a file that clients trust, or make a lasting CA with egret ca init",
				"ephemeral and never written down: no client but one of egret exec can trust it")
			return
		}
		e.ok("CA", "ephemeral (for laptops and CI runners); clients trust %s", c.Ephemeral.Bundle)
		return
	}
	for _, f := range c.File {
		check := "CA " + f.Chain
		ca, err := certs.ReadCA(f.Chain, f.Key)
		if err != nil {
			e.bad(Fail, check, "egret ca issue makes intermediates; their keys are for egret's user only (chmod 0600)", err)
			continue
		}
		cert := ca.Certificate()
		e.life(check, "may sign for "+names(cert), span{cert.NotBefore, cert.NotAfter}, "egret ca issue makes a new one; the running egret takes it by itself")
		e.key(check+" key", f.Key)
	}
}

// key looks at who may read a key; what others may read has been refused already.
func (e *examination) key(check, file string) {
	info, err := os.Stat(file)
	switch {
	case err != nil:
		e.bad(Fail, check, "let egret's user read it", err)
	case info.Mode().Perm()&0o070 != 0:
		e.bad(Warn, check, "chmod 0600, unless its group is egret's alone (fsGroup in Kubernetes)",
			fmt.Sprintf("%s has mode %04o: its group may read it", file, info.Mode().Perm()))
	default:
		e.ok(check, "only its owner may read %s", file)
	}
}

// roots are what clients must trust; nil where they are made at the start.
func (e *examination) roots() []*x509.Certificate {
	c := e.Config.Certs.Issuer
	if c.Ephemeral != nil {
		list, err := certs.ReadCertificates(c.Ephemeral.Bundle)
		if err != nil {
			return nil
		}
		return list
	}
	var out []*x509.Certificate
	for _, f := range c.File {
		if ca, err := certs.ReadCA(f.Chain, f.Key); err == nil {
			out = append(out, ca.Root())
		}
	}
	return out
}

// clientTrust looks whether programs of this environment trust what egret signs.
func (e *examination) clientTrust() {
	const check = "client trust"
	file, roots := e.Getenv("SSL_CERT_FILE"), e.roots()
	if file == "" || len(roots) == 0 {
		return
	}
	text, err := os.ReadFile(file)
	if err != nil {
		e.bad(Warn, check, "let SSL_CERT_FILE name a file that is there: egret ca bundle makes one", err)
		return
	}
	have := certs.Parseable(text)
	for _, r := range roots {
		if !slices.ContainsFunc(have, r.Equal) {
			e.bad(Warn, check, "egret ca bundle makes a file that does; egret exec needs none",
				fmt.Sprintf("SSL_CERT_FILE (%s) does not hold egret's root %q: programs of this environment refuse its certificates", file, r.Subject.CommonName))
			return
		}
	}
	e.ok(check, "SSL_CERT_FILE (%s) holds egret's roots", file)
}
