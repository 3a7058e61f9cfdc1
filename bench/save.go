// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/egret-proxy/egret/bench/internal/growth"
	"github.com/egret-proxy/egret/bench/internal/report"
)

// reportVerb writes the report of earlier runs anew, from their JSON; of several, their
// parts together, with today's goals.
func reportVerb(_ context.Context, args []string, std streams) error {
	f := flag.NewFlagSet("report", flag.ContinueOnError)
	f.SetOutput(std.err)
	out := f.String("out", "", "`folder` for NAME.md, NAME.json and plots; default: print the table only")
	name := f.String("name", "", "`name` of the files; default: that of the first run")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() == 0 {
		return errors.New("report needs a file, the JSON of a run; of several, their parts are put together")
	}
	rep, err := read(f.Arg(0))
	if err != nil {
		return err
	}
	if rep.Goals, err = goals(); err != nil {
		return err
	}
	for _, path := range f.Args()[1:] {
		more, err := read(path)
		if err != nil {
			return err
		}
		rep.Merge(more)
	}
	growth.Pooled(rep)
	if *name != "" {
		rep.Name = *name
	}
	if *out == "" {
		return rep.Markdown(std.out)
	}
	return save(rep, *out, std.out)
}

// read reads the JSON of a run.
func read(path string) (*report.Report, error) {
	js, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	rep := new(report.Report)
	if err := json.Unmarshal(js, rep); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return rep, nil
}

// save writes the report as NAME.md and NAME.json with its plots, and its text to w.
func save(rep *report.Report, dir string, w io.Writer) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	js, err := json.MarshalIndent(rep, "", " ")
	if err != nil {
		return err
	}
	var b strings.Builder
	if err := rep.Markdown(&b); err != nil {
		return err
	}
	files := rep.Plots()
	files[rep.Stem()+".json"], files[rep.Stem()+".md"] = append(js, '\n'), []byte(b.String())
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(w, "%s\nwritten to %s: %s\n", b.String(), dir, strings.Join(slices.Sorted(maps.Keys(files)), ", "))
	return err
}
