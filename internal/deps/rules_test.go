// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package deps

import (
	"fmt"
	"slices"
	"strings"
)

// rules say who may import whom. A folder belongs to the longest entry that it is below.
type rules struct {
	arrows     map[string][]string // by part: what its files may import, besides the part itself
	testArrows map[string][]string // by part: what its test files may import, too
	everyone   string              // what everyone may import
	homes      map[string]string   // by foreign module: the only folders (with slash) or files that may import it, joined by " or "
}

// header starts every file.
const header = "// SPDX-FileCopyrightText: The egret authors\n// SPDX-License-Identifier: Apache-2.0\n\n"

// faults returns everything that is wrong with a tree, sorted.
func (r rules) faults(tree []file) []string {
	var out []string
	for _, f := range tree {
		if !strings.HasPrefix(f.text, header) {
			out = append(out, f.name+": must start with the two SPDX lines and an empty one")
		}
		for _, i := range f.imports {
			if fault := r.importFault(f, i); fault != "" {
				out = append(out, f.name+": "+fault)
			}
		}
	}
	out = append(out, docFaults(tree)...)
	slices.Sort(out)
	return out
}

func (r rules) importFault(f file, path string) string {
	if to, ours := strings.CutPrefix(path, module+"/"); ours {
		if r.may(f, to) {
			return ""
		}
		return fmt.Sprintf("must not import %s (the arrows are in internal/deps)", to)
	}
	if home := r.home(path); home != "" && !isHome(f.name, home) {
		return fmt.Sprintf("must not import %s: its place is %s", path, home)
	}
	return ""
}

// home is that of the longest entry that a foreign package is below, if there is one.
func (r rules) home(path string) (home string) {
	best := ""
	for foreign, h := range r.homes {
		if below(path, foreign) && len(foreign) > len(best) {
			best, home = foreign, h
		}
	}
	return home
}

// isHome: a home is a file or a folder with its slash, or several of these.
func isHome(name, homes string) bool {
	return slices.ContainsFunc(strings.Split(homes, " or "), func(home string) bool {
		return name == home || strings.HasSuffix(home, "/") && strings.HasPrefix(name, home)
	})
}

func (r rules) may(f file, to string) bool {
	from := r.part(f.dir())
	list := append([]string{from, r.everyone}, r.arrows[from]...)
	if f.test {
		list = append(list, r.testArrows[from]...)
	}
	return slices.ContainsFunc(list, func(part string) bool { return below(to, part) })
}

// part is the longest entry that a folder is below; one without an entry is its own.
func (r rules) part(dir string) string {
	best := ""
	for _, list := range []map[string][]string{r.arrows, r.testArrows} {
		for part := range list {
			if below(dir, part) && len(part) > len(best) {
				best = part
			}
		}
	}
	if best == "" {
		return dir
	}
	return best
}

func below(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

// docFaults: every package says what it is, once, where go doc looks for it. Programs
// are named by themselves.
func docFaults(tree []file) []string {
	docs, starts := map[string]string{}, map[string]string{}
	for _, f := range tree {
		if f.test {
			continue
		}
		docs[f.dir()] += f.doc
		starts[f.dir()] = "Package " + f.pkg + " "
		if f.pkg == "main" {
			starts[f.dir()] = ""
		}
	}
	var out []string
	for dir, doc := range docs {
		if doc == "" || !strings.HasPrefix(doc, starts[dir]) {
			out = append(out, fmt.Sprintf("%s: needs one package comment, starting with %q", dir, starts[dir]))
		}
	}
	return out
}
