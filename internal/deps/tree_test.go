// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package deps

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/egret-proxy/egret"

// file is one Go file of the tree, whatever its build constraints.
type file struct {
	name    string // slash-separated, from the root of the tree
	text    string
	pkg     string
	doc     string
	test    bool
	imports []string
}

// dir is the package's folder: its import path below the module, "" for the root.
func (f file) dir() string {
	if d := path.Dir(f.name); d != "." {
		return d
	}
	return ""
}

// readTree parses every Go file below root. It asks no go command, so that files of all
// platforms and build tags are seen.
func readTree(t *testing.T, root string) []file {
	t.Helper()
	var out []file
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != root && skipped(name, d.Name()):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		f, err := readFile(name, filepath.ToSlash(rel))
		out = append(out, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// skipped folders are other modules, test data, and what the go command leaves out, too.
func skipped(name, base string) bool {
	if base == "testdata" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
		return true
	}
	_, err := os.Stat(filepath.Join(name, "go.mod"))
	return err == nil
}

func readFile(name, rel string) (file, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return file{}, err
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly|parser.ParseComments)
	if err != nil {
		return file{}, err
	}
	f := file{name: rel, text: string(text), pkg: parsed.Name.Name, doc: docOf(parsed), test: strings.HasSuffix(rel, "_test.go")}
	for _, i := range parsed.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			return file{}, err
		}
		f.imports = append(f.imports, p)
	}
	return f, nil
}

func docOf(f *ast.File) string {
	if f.Doc == nil {
		return ""
	}
	return f.Doc.Text()
}
