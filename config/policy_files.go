// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
)

// policyFile is one file to read, with the rights of the path that led to it.
type policyFile struct {
	name  string // as reached from policy.paths, for messages and relative paths
	scope []string
	root  string // real path of the entry
	real  string
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
	walk   *walker // of this entry
}

func findPolicy(paths []PolicyPath) *finder {
	f := &finder{owner: make(map[string]int)}
	for i, p := range paths {
		f.entry, f.path = i, p
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
	f.walk = newWalker(real, len(f.path.Scope) > 0)
	if err := f.take(child{name: name, real: real, info: info}, 0); err != nil {
		f.bad(name, tooMany(), "name the folders of policy one by one")
		return
	}
	if info.IsDir() && len(f.files) == before && len(f.path.Scope) == 0 && len(f.faults) == 0 {
		f.bad(name, "must hold at least one *.yaml or *.yml file", "it is named by policy.paths")
	}
}

// take returns an error where the walk must end. A link that leads nowhere counts by its
// name: a policy that cannot be read must not be passed over in silence (MUST P3).
func (f *finder) take(c child, depth int) error {
	switch {
	case c.out:
		f.bad(c.name, "must not be a link out of its folder", "the authors of a path with a scope may not name files elsewhere")
	case c.err != nil:
		f.bad(c.name, mustBeReadable(c.err), "")
	case c.info.IsDir() && depth > maxFolders:
		f.bad(c.name, fmt.Sprintf("must be at most %d folders deep", maxFolders), "")
	case c.info.IsDir():
		return f.folder(c, depth)
	default:
		f.file(c)
	}
	return nil
}

// file takes a file once. A file that two entries reach would have the rights of
// whichever comes first, so it is refused.
func (f *finder) file(c child) {
	first, seen := f.owner[c.real]
	switch {
	case !seen:
		f.owner[c.real] = f.entry
		f.files = append(f.files, policyFile{name: c.name, scope: f.path.Scope, root: f.walk.root, real: c.real})
	case first != f.entry:
		f.bad(c.name, fmt.Sprintf("must be reached by one entry of policy.paths only, it is by [%d] and [%d]", first, f.entry), "")
	}
}

func (f *finder) folder(c child, depth int) error {
	if !f.walk.enter(c.real) {
		return nil
	}
	f.dirs = append(f.dirs, c.name)
	list, err := f.walk.list(c.name, c.real)
	switch {
	case errors.Is(err, errManyNames):
		return err
	case err != nil:
		f.bad(c.name, mustBeReadable(err), "")
	}
	for _, x := range list {
		if err := f.take(x, depth+1); err != nil {
			return err
		}
	}
	return nil
}
