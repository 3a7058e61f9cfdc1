// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"

	api "github.com/egret-proxy/egret/api/v1alpha1"
)

func (l *loader) provider(i int, p *api.Provider) {
	l.assertion(i, p)
	if p.Exec != nil {
		l.program(i, p.Exec)
	}
	for _, s := range p.Secrets() {
		l.secret(i, s.Path, s.Source)
	}
	for _, s := range p.States() {
		l.state(i, s)
	}
}

// assertion keeps apart what callers show to egret and what egret shows to others: a
// JWT-SVID for a listener's audience would let its receiver speak to egret as the workload
// (MUST I10).
func (l *loader) assertion(i int, p *api.Provider) {
	to := p.Assertion()
	if to == "" {
		return
	}
	for _, x := range l.node.Listeners {
		if is := x.Identify.JWTSVID; is != nil && is.Audience == to {
			l.bad(i, "spec.provider."+p.Kind(), to, "must not show others a JWT-SVID for the audience of listener "+x.Name+", which takes it for the workload",
				"give the listener an audience of its own")
		}
	}
}

// program holds a Credential to what the node lets it run: who writes policy for many
// nodes must not run what they like on each, least of all a shell.
func (l *loader) program(i int, p *api.ExecProvider) {
	const path = "spec.provider.exec."
	name := p.Command[0]
	if l.opt.SecretsElsewhere { // in a review there is no node that could allow it
		l.notes = append(l.notes, fmt.Sprintf("program %s runs only where egret.yaml has secrets: {allowPrograms: [%s]}", shown(path+"command", name), shown(path+"command", name)))
		if len(p.Env) > 0 {
			l.notes = append(l.notes, fmt.Sprintf("program %s gets variables of egret's environment only where egret.yaml has secrets: {allowEnv: true}", shown(path+"command", name)))
		}
		return
	}
	if !slices.Contains(l.node.Secrets.AllowPrograms, name) {
		l.bad(i, path+"command", name, "must be a program that the node allows", "set secrets: {allowPrograms: ["+name+"]} in egret.yaml")
	}
	if len(p.Env) > 0 && !l.node.Secrets.AllowEnv {
		l.bad(i, path+"env", "", "must not be used, the node does not allow its environment to Credentials",
			"set secrets: {allowEnv: true} in egret.yaml")
	}
}

// secret checks that a secret is where the object says, without keeping it (MUST P3).
func (l *loader) secret(i int, path string, s *api.SecretSource) {
	switch {
	case s.File != "":
		l.secretFile(i, path+".file", s.File)
	case l.opt.SecretsElsewhere: // the environment of egret is not the one here
	case s.SystemdCredential != "":
		dir := l.env.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			l.bad(i, path+".systemdCredential", "", "must be a credential of egret's unit, which has none", "add LoadCredential=NAME:FILE to the unit")
			return
		}
		l.secretFile(i, path+".systemdCredential", filepath.Join(dir, s.SystemdCredential))
	case !l.node.Secrets.AllowEnv:
		l.bad(i, path+".env", "", "must not be used, the node does not allow secrets from the environment",
			"use file, or set secrets: {allowEnv: true} in egret.yaml: other processes of the same user can read it")
	case l.env.Getenv(s.Env) == "":
		l.bad(i, path+".env", "", "must name a variable that is set", "")
	}
}

func (l *loader) secretFile(i int, path, name string) {
	written := l.docs.written(i, path) // a token that was made absolute looks like a path
	err := regular(l.env, name, maxSecretBytes)
	var data []byte
	if err == nil {
		data, err = l.env.ReadFile(name)
	}
	switch {
	case err != nil && l.opt.SecretsElsewhere && elsewhere(err):
		l.notes = append(l.notes, fmt.Sprintf("secret file %s is not here; egret run needs it", shown(path, written)))
	case err != nil:
		l.bad(i, path, written, mustBeReadable(err), "")
	case len(bytes.TrimSpace(data)) == 0:
		l.bad(i, path, written, "must be a file that is not empty", "")
	}
	clear(data)
}
