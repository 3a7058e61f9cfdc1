// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	api "github.com/egret-proxy/egret/api/v1alpha1"
)

// TestProvidersAreDocumented: the table of docs/credentials.md has a whole row for each
// member of Provider and none besides, links to an example that shows it, and nobody finds
// out only at night that a provider is a preview.
func TestProvidersAreDocumented(t *testing.T) {
	raw, err := os.ReadFile("../docs/credentials.md")
	check(t, err)
	rows := map[string][]string{}
	for line := range strings.Lines(string(raw)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if m := regexp.MustCompile("^ \\[`(\\w+)`\\]").FindStringSubmatch(cells[0]); m != nil && strings.HasPrefix(line, "|") {
			rows[m[1]] = cells
		}
	}
	shown, preview := providersShown(t)
	kinds := reflect.TypeFor[api.Provider]()
	for i := range kinds.NumField() {
		kind := jsonName(kinds.Field(i))
		cells := rows[kind]
		delete(rows, kind)
		if len(cells) != 6 {
			t.Errorf("%s: a row of %d cells, want 6", kind, len(cells))
			continue
		}
		for j, c := range cells {
			if strings.TrimSpace(c) == "" {
				t.Errorf("%s: cell %d is empty", kind, j)
			}
		}
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(strings.Join(cells, " "), -1) {
			if file := filepath.Join("../docs", m[1]); !shown[kind][file] {
				t.Errorf("%s: %s does not show it", kind, m[1])
			}
		}
		if says := strings.Contains(cells[5], "preview"); says != preview[kind] {
			t.Errorf("%s: preview is %v, and the table says %v", kind, preview[kind], says)
		}
	}
	for kind := range rows {
		t.Errorf("the table has %s, which is no provider", kind)
	}
}

// providersShown are the files that show a provider, by kind, and the kinds of which one
// at least is a preview.
func providersShown(t *testing.T) (shown map[string]map[string]bool, preview map[string]bool) {
	t.Helper()
	shown, preview = map[string]map[string]bool{}, map[string]bool{}
	for _, name := range examples(t) {
		docs, _ := LoadPolicy([]PolicyPath{{Path: name}})
		for _, o := range docs.Objects {
			if o.Credential == nil {
				continue
			}
			p := &o.Credential.Spec.Provider
			if shown[p.Kind()] == nil {
				shown[p.Kind()] = map[string]bool{}
			}
			shown[p.Kind()][name] = true
			preview[p.Kind()] = preview[p.Kind()] || p.Preview()
		}
	}
	return shown, preview
}
