// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package local is the example that runs on one machine: the policy of a small company
// and the nightly job of its QA team. The documents are embedded, so that egret's
// demonstration runs with the very files that people copy.
package local

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"text/template"
)

// Policy is the folder policy/ as it is meant for production.
//
//go:embed policy
var Policy embed.FS

//go:embed overlay
var overlay embed.FS

// platform is the part of policy/ that is made from the templates in overlay/.
const platform = "policy/platform"

// Overlay points the documents at twins of the SaaS APIs instead of the real ones. The
// zero Overlay changes nothing: Render then returns the files of Policy byte for byte.
type Overlay struct {
	Dial         string // "127.0.0.1:port": where all destinations and issuers are
	Roots        string // file with the twins' root, absolute or relative to policy/platform
	AllowPrivate string // range of Dial: "127.0.0.0/8"
}

// Render returns the content of every policy document by its slash-separated path
// ("policy/teams/qa/access.yaml"). The Overlay must be complete or zero. Secrets are
// not part of it: the Credentials expect secrets/qase-token and
// secrets/pagerduty-client-secret beside the folder policy.
func Render(o Overlay) (map[string][]byte, error) {
	if o != (Overlay{}) && (o.Dial == "" || o.Roots == "" || o.AllowPrivate == "") {
		return nil, fmt.Errorf("render the example: dial %q, roots %q and allowPrivate %q go together", o.Dial, o.Roots, o.AllowPrivate)
	}
	out, err := documents()
	if err != nil {
		return nil, fmt.Errorf("render the example: %w", err)
	}
	t, err := template.New("").Funcs(template.FuncMap{"quote": quote}).ParseFS(overlay, "overlay/*.tmpl")
	if err != nil {
		return nil, fmt.Errorf("render the example: %w", err)
	}
	for _, name := range []string{"destinations.yaml", "credentials.yaml"} {
		var b strings.Builder
		if err := t.ExecuteTemplate(&b, name+".tmpl", o); err != nil {
			return nil, fmt.Errorf("render the example: %w", err)
		}
		out[path.Join(platform, name)] = []byte(b.String())
	}
	return out, nil
}

// documents reads what needs no rendering.
func documents() (map[string][]byte, error) {
	out := map[string][]byte{}
	return out, fs.WalkDir(Policy, "policy", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		out[p], err = Policy.ReadFile(p)
		return err
	})
}

// quote writes s as a JSON string, which is also a YAML one.
func quote(s string) (string, error) {
	b, err := json.Marshal(s)
	return string(b), err
}
