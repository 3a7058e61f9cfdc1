// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package reference

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
)

// module is what go.mod of the source tree must say.
const module = "module github.com/egret-proxy/egret"

// FindSource returns the root of the source tree that dir is in.
func FindSource(dir string) (string, error) {
	at, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for {
		text, err := os.ReadFile(filepath.Join(at, "go.mod"))
		if first, _, _ := strings.Cut(string(text), "\n"); err == nil && first == module {
			return at, nil
		}
		parent := filepath.Dir(at)
		if parent == at {
			return "", fmt.Errorf("%q is not in egret's source tree: the reference is made from doc comments; run it where make docs does", dir)
		}
		at = parent
	}
}

// structure is a struct type of the source.
type structure struct {
	doc    string
	fields []field
}

// field is one field of a struct that has a name in the written form.
type field struct {
	goName   string
	name     string // in JSON and YAML
	typ      string // as it is written in Go
	doc      string
	optional bool
}

// structures reads the struct types of a package.
func structures(source, folder string) (map[string]structure, error) {
	dir := filepath.Join(source, filepath.FromSlash(folder))
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no source in %q: %w", dir, fs.ErrNotExist)
	}
	out := map[string]structure{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, d := range f.Decls {
			addStructures(out, d)
		}
	}
	return out, nil
}

func addStructures(out map[string]structure, d ast.Decl) {
	decl, ok := d.(*ast.GenDecl)
	if !ok || decl.Tok != token.TYPE {
		return
	}
	for _, s := range decl.Specs {
		spec, ok := s.(*ast.TypeSpec)
		if !ok {
			continue
		}
		if st, ok := spec.Type.(*ast.StructType); ok {
			out[spec.Name.Name] = structure{doc: commentOf(spec.Doc, decl.Doc), fields: fieldsOf(st)}
		}
	}
}

func fieldsOf(st *ast.StructType) []field {
	var out []field
	for _, f := range st.Fields.List {
		if f.Tag == nil || len(f.Names) != 1 {
			continue
		}
		tag, err := strconv.Unquote(f.Tag.Value)
		if err != nil {
			continue // the compiler has seen it
		}
		name, options, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		out = append(out, field{
			goName: f.Names[0].Name, name: name, typ: typeOf(f.Type),
			doc: commentOf(f.Doc, f.Comment), optional: strings.Contains(options, "omitempty"),
		})
	}
	return out
}

// commentOf is the first of the comments that says anything.
func commentOf(groups ...*ast.CommentGroup) string {
	for _, g := range groups {
		if text := g.Text(); text != "" {
			return strings.TrimSpace(text)
		}
	}
	return ""
}

// typeOf writes a type expression as in the source.
func typeOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.StarExpr:
		return "*" + typeOf(e.X)
	case *ast.ArrayType:
		return "[]" + typeOf(e.Elt)
	case *ast.MapType:
		return "map[" + typeOf(e.Key) + "]" + typeOf(e.Value)
	case *ast.SelectorExpr:
		return typeOf(e.X) + "." + e.Sel.Name
	}
	return fmt.Sprintf("%T", e)
}
