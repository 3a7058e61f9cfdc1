// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package peers holds the settings of the programs that egret is measured against, each
// in a folder of its own and as fast as its manual allows, and fills in what a run knows.
package peers

import (
	"embed"
	"strings"
	"text/template"
)

//go:embed nginx/nginx.conf haproxy/haproxy.cfg squid/squid.conf mitmproxy/inject.py
var files embed.FS

// Values are what a run fills in.
type Values struct {
	Dir     string // scratch folder of the peer
	Address string // where it listens
	Origin  string // host:port, HTTPS
	GRPC    string // host:port, gRPC over TLS
	Host    string // name of the origin's certificate
	Token   string // goes into each request as Authorization: Bearer
	Root    bool   // the peer is started as root
	Workers int    // processes or threads, for those that have them
	Helper  string // squid: the program that makes certificates
}

// Text is a file of settings as it is in the tree, without values.
func Text(name string) (string, error) {
	b, err := files.ReadFile(name)
	return string(b), err
}

// Render is a file of settings with values filled in.
func Render(name string, v Values) (string, error) {
	text, err := Text(name)
	if err != nil {
		return "", err
	}
	t, err := template.New(name).Option("missingkey=error").Parse(text)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = t.Execute(&b, v)
	return b.String(), err
}
