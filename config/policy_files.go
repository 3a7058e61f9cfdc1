// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxFolders bounds how deep folders of policy are followed.
const maxFolders = 16

// policyFile is one file to read, with the rights of the path that led to it.
type policyFile struct {
	name  string // as reached from policy.paths, for messages and relative paths
	scope []string
}

// finder lists the policy files below policy.paths: *.yaml and *.yml, nothing that
// is a test (NAME_test.yaml) or begins with a dot (which leaves out the ..data folders of a Kubernetes volume, whose
// files are reached by the links beside them), every real file once, in the order of
// the paths and then of the names.
type finder struct {
	files  []policyFile
	dirs   []string
	faults Faults
	owner  map[string]int // real file -> entry of policy.paths that reached it
	entry  int
	path   PolicyPath
	root   string // real path of the entry
	seen   visits // folders of this entry
}

func findPolicy(paths []PolicyPath) *finder {
	f := &finder{owner: make(map[string]int)}
	for i, p := range paths {
		f.entry, f.path, f.seen = i, p, make(visits)
		f.start(p.Path)
	}
	return f
}

func (f *finder) bad(name, rule, hint string) {
	f.faults = append(f.faults, Fault{File: name, Rule: rule, Hint: hint})
}

func (f *finder) start(name string) {
	before := len(f.files)
	info, real, err := statReal(name)
	if err != nil {
		f.bad(name, mustBeReadable(err), "it is named by policy.paths")
		return
	}
	f.root = real
	f.take(name, info, real, 0)
	if info.IsDir() && len(f.files) == before && len(f.path.Scope) == 0 && len(f.faults) == 0 {
		f.bad(name, "must hold at least one *.yaml or *.yml file", "it is named by policy.paths")
	}
}

func statReal(name string) (fs.FileInfo, string, error) {
	real, err := filepath.EvalSymlinks(name)
	if err != nil {
		return nil, "", err
	}
	info, err := os.Stat(real)
	return info, real, err
}

func (f *finder) take(name string, info fs.FileInfo, real string, depth int) {
	switch {
	case !f.within(real):
		f.bad(name, "must not be a link out of its folder", "the authors of a path with a scope may not name files elsewhere")
	case info.IsDir() && depth > maxFolders:
		f.bad(name, fmt.Sprintf("must be at most %d folders deep", maxFolders), "")
	case info.IsDir():
		f.folder(name, real, depth)
	default:
		f.file(name, real)
	}
}

// within holds the authors of a scoped path to their folder (MUST G1).
func (f *finder) within(real string) bool {
	return len(f.path.Scope) == 0 || real == f.root || strings.HasPrefix(real, f.root+string(filepath.Separator))
}

// file takes a file once. A file that two entries reach would have the rights of
// whichever comes first, so it is refused.
func (f *finder) file(name, real string) {
	first, seen := f.owner[real]
	switch {
	case !seen:
		f.owner[real] = f.entry
		f.files = append(f.files, policyFile{name: name, scope: f.path.Scope})
	case first != f.entry:
		f.bad(name, fmt.Sprintf("must be reached by one entry of policy.paths only, it is by [%d] and [%d]", first, f.entry), "")
	}
}

func (f *finder) folder(name, real string, depth int) {
	if !f.seen.first(real) {
		return
	}
	f.dirs = append(f.dirs, name)
	entries, err := os.ReadDir(name)
	if err != nil {
		f.bad(name, mustBeReadable(err), "")
		return
	}
	for _, e := range entries {
		f.child(filepath.Join(name, e.Name()), depth+1)
	}
}

// child takes one entry of a folder. A link that leads nowhere counts by its name: a
// policy that cannot be read must not be passed over in silence (MUST P3).
func (f *finder) child(name string, depth int) {
	base := filepath.Base(name)
	if strings.HasPrefix(base, ".") {
		return
	}
	info, real, err := statReal(name)
	isPolicy := (strings.HasSuffix(base, ".yaml") || strings.HasSuffix(base, ".yml")) && !isTestFile(base)
	switch {
	case err != nil && isPolicy:
		f.bad(name, mustBeReadable(err), "")
	case err != nil:
	case info.IsDir() || isPolicy:
		f.take(name, info, real, depth)
	}
}
