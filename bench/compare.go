// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"

	"github.com/egret-proxy/egret/bench/internal/compare"
)

// share is a flag such as 10%.
type share float64

// String implements flag.Value.
func (s *share) String() string { return strconv.FormatFloat(100*float64(*s), 'g', -1, 64) + "%" }

// Set implements flag.Value.
func (s *share) Set(text string) error {
	number, percent := strings.CutSuffix(text, "%")
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || !percent || v <= 0 {
		return fmt.Errorf("%q is no positive share such as 10%%", text)
	}
	*s = share(v / 100)
	return nil
}

// compareVerb says what has changed between two runs. It fails where egret has certainly
// become worse by more than -fail-over.
func compareVerb(_ context.Context, args []string, std streams) error {
	var limit share
	f := flag.NewFlagSet("compare", flag.ContinueOnError)
	f.SetOutput(std.err)
	f.Var(&limit, "fail-over", "fail where a `share` such as 10% is certainly exceeded for the worse; default: never")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() != 2 {
		return errors.New("compare needs two files, the JSON of an old run and of a new one")
	}
	before, err := read(f.Arg(0))
	if err != nil {
		return err
	}
	after, err := read(f.Arg(1))
	if err != nil {
		return err
	}
	changes := compare.Runs(before, after)
	if err := compare.Write(std.out, changes); err != nil {
		return err
	}
	if worse := compare.Regressed(changes, float64(limit)); limit > 0 && len(worse) > 0 {
		return fmt.Errorf("worse by more than %s: %s", limit.String(), strings.Join(worse, "; "))
	}
	return nil
}
