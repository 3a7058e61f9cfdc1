// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// scalar decodes strings, booleans, numbers, durations and sizes.
func (d *decoder) scalar(n *yaml.Node, p *path, v reflect.Value) {
	if n.Kind != yaml.ScalarNode {
		d.bad(n, p, "must be a single "+kindName(v.Type()), "")
		return
	}
	switch {
	case v.Type() == durationType:
		d.duration(n, p, v)
	case v.Type() == sizeType:
		d.size(n, p, v)
	case v.Kind() == reflect.String:
		// Whatever the text looks like (a date, a number, true), it stays the text.
		v.SetString(n.Value)
	case v.Kind() == reflect.Bool:
		d.boolean(n, p, v)
	case v.CanInt():
		d.integer(n, p, v)
	default: // a field of a kind that no configuration of ours has
		d.bad(n, p, "cannot be set from a file", "")
	}
}

func (d *decoder) boolean(n *yaml.Node, p *path, v reflect.Value) {
	if quoted(n) || n.Value != "true" && n.Value != "false" {
		d.bad(n, p, "must be true or false", "write it without quotes")
		return
	}
	v.SetBool(n.Value == "true")
}

func (d *decoder) integer(n *yaml.Node, p *path, v reflect.Value) {
	i, err := strconv.ParseInt(n.Value, 10, v.Type().Bits())
	if err != nil || quoted(n) || strings.HasPrefix(n.Value, "+") {
		d.bad(n, p, "must be a whole number", "write decimal digits, without quotes")
		return
	}
	v.SetInt(i)
}

func (d *decoder) duration(n *yaml.Node, p *path, v reflect.Value) {
	t, err := time.ParseDuration(n.Value)
	if err != nil {
		d.bad(n, p, "must be a duration with a unit", "write 500ms, 10s, 5m or 24h")
		return
	}
	v.SetInt(int64(t))
}

func (d *decoder) size(n *yaml.Node, p *path, v reflect.Value) {
	s, err := ParseSize(n.Value)
	if err != nil {
		d.bad(n, p, "must be a size in bytes", "write 64KiB, 100MiB, 1GiB or a whole number of bytes")
		return
	}
	v.SetInt(int64(s))
}

func quoted(n *yaml.Node) bool {
	return n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0
}

// kindName is what people call a type in a message and in the reference.
func kindName(t reflect.Type) string {
	switch {
	case t == durationType:
		return "duration"
	case t == sizeType:
		return "size"
	case t.Kind() == reflect.String:
		return "string"
	case t.Kind() == reflect.Bool:
		return "boolean"
	case t.Kind() == reflect.Pointer:
		return kindName(t.Elem())
	case t.Kind() == reflect.Slice:
		return "list of " + plural(kindName(t.Elem()))
	case t.Kind() == reflect.Struct, t.Kind() == reflect.Map:
		return "mapping"
	}
	return "number"
}

func plural(noun string) string { return fmt.Sprintf("%ss", noun) }
