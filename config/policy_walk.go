// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Bounds of one entry of policy.paths. They keep whoever may write there from costing
// the node more than a moment, or the policy of everybody else.
const (
	maxFolders     = 16       // how deep folders are followed
	maxNames       = 20_000   // names in all its folders, whatever they name
	maxSourceBytes = 32 << 20 // of all its policy files
	maxScoped      = 10_000   // objects, where it has a scope
)

var errManyNames = errors.New("too many names")

// walker goes through the folders of one entry of policy.paths: for the load, for the
// snapshot and for the watch, so that none of them looks where another does not.
type walker struct {
	root  string          // real path of the entry
	held  bool            // nothing outside root is looked into (MUST G1)
	seen  map[string]bool // real folders that were entered: links in a circle end
	names int             // met so far
}

func newWalker(root string, held bool) *walker {
	return &walker{root: root, held: held, seen: map[string]bool{}}
}

// child is one name in a folder that policy may stand under: a folder, or a file whose
// name ends in .yaml or .yml, or a link to one.
type child struct {
	name string
	real string
	info fs.FileInfo
	err  error // a link that leads nowhere
	out  bool  // a link out of where the walk is held; info is of what is there, not to be opened
}

// statReal follows links.
func statReal(name string) (fs.FileInfo, string, error) {
	real, err := filepath.EvalSymlinks(name)
	if err != nil {
		return nil, "", err
	}
	info, err := os.Stat(real)
	return info, real, err
}

// within holds the authors of a scoped path to their folder (MUST G1).
func (w *walker) within(real string) bool {
	return !w.held || real == w.root || strings.HasPrefix(real, strings.TrimSuffix(w.root, "/")+string(filepath.Separator))
}

// enter reports whether a folder is to be listed: once, however many links lead there.
func (w *walker) enter(real string) bool {
	if w.seen[real] {
		return false
	}
	w.seen[real] = true
	return true
}

// list returns what is in a folder, sorted, without names that begin with a dot. With
// errManyNames the list is incomplete, and the walk must end.
func (w *walker) list(name, real string) ([]child, error) {
	dir, err := os.Open(real)
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }() // only read
	entries, err := dir.ReadDir(maxNames - w.names + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if w.names += len(entries); w.names > maxNames {
		return nil, errManyNames
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	var out []child
	for _, e := range entries {
		if c, ok := w.child(e, name, real); ok {
			out = append(out, c)
		}
	}
	return out, nil
}

func (w *walker) child(e fs.DirEntry, dir, realDir string) (child, bool) {
	c := child{name: filepath.Join(dir, e.Name()), real: filepath.Join(realDir, e.Name())}
	switch {
	case strings.HasPrefix(e.Name(), "."):
		return c, false
	case e.Type()&fs.ModeSymlink != 0:
		c.info, c.real, c.err = statReal(filepath.Join(realDir, e.Name()))
		c.out = c.err == nil && !w.within(c.real)
	case e.IsDir() || isPolicyFile(e.Name()):
		c.info, c.err = e.Info()
	default:
		return c, false
	}
	return c, isPolicyFile(e.Name()) || c.err == nil && c.info.IsDir()
}

func isPolicyFile(base string) bool {
	return (strings.HasSuffix(base, ".yaml") || strings.HasSuffix(base, ".yml")) && !isTestFile(base)
}

// tooMany is the rule that errManyNames broke.
func tooMany() string {
	return fmt.Sprintf("must hold at most %d names, with all folders in it and what it links to", maxNames)
}
