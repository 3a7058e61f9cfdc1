// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"os"

	"github.com/egret-proxy/egret/certs"
)

// ParentTrust returns what programs of the parent's environment trust, as PEM: the
// file of SSL_CERT_FILE or else the system's, and the roots that other variables name.
// A company's own root must not be lost because egret sets those variables anew.
// Variables whose file cannot be used are returned by name.
//
// This is about the child's trust in tunnelled hosts only. What egret itself trusts
// upstream never comes from the environment (certs.LoadUpstreamRoots).
func ParentTrust(env []string) (system []byte, unusable []string, err error) {
	system = roots(value(env, "SSL_CERT_FILE"))
	if system == nil {
		if system, _, err = certs.SystemRoots(); err != nil {
			return nil, nil, err
		}
	}
	for _, name := range append(replacing(), "NODE_EXTRA_CA_CERTS", "DENO_CERT") {
		path := value(env, name)
		if path == "" {
			continue
		}
		text := roots(path)
		if text == nil {
			unusable = append(unusable, name)
		}
		system = append(append(system, text...), '\n')
	}
	return system, unusable, nil
}

// roots returns a PEM file that holds a usable certificate, or nil.
func roots(path string) []byte {
	text, err := os.ReadFile(path)
	if err != nil || len(certs.Parseable(text)) == 0 {
		return nil
	}
	return text
}
