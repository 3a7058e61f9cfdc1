// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package reference

import (
	"errors"

	"github.com/egret-proxy/egret/audit"
)

// writeRecords lists the fields of a record.
func writeRecords(o Options, m *markdown) error {
	structs, err := structures(o.Source, "audit")
	if err != nil {
		return err
	}
	s, ok := structs["Record"]
	if !ok {
		return errors.New("package audit has no type Record")
	}
	m.title("Records", "audit/audit.go")
	m.para("One JSON object per line, `schema` " + mono(audit.Schema) + ", written exactly once for every request. " +
		"A record holds no query, no header value, no body and no token. Fields are only ever added within a schema.")
	m.table([]string{"field", "type", "always", "meaning"}, recordRows(s))
	m.heading("Kinds")
	m.table([]string{"kind", "written"}, [][]string{
		{mono(audit.KindRequest), "for one request, inside TLS or refused at CONNECT"},
		{mono(audit.KindStreamStart), "when a tunnel, a WebSocket or a long stream begins"},
		{mono(audit.KindStreamEnd), "when it ends"},
		{mono(audit.KindHandshake), "when a client did not complete TLS with egret"},
		{mono(audit.KindAdmin), "for a call on the admin socket"},
	})
	return nil
}

func recordRows(s structure) [][]string {
	rows := make([][]string, 0, len(s.fields))
	for _, f := range s.fields {
		always := "yes"
		if f.optional {
			always = ""
		}
		rows = append(rows, []string{mono(f.name), recordType(f.typ), always, prose(oneLine(f.doc))})
	}
	return rows
}

// recordType is how a Go type is written in a record.
func recordType(typ string) string {
	switch typ {
	case "time.Time":
		return "time"
	case "time.Duration":
		return "microseconds"
	case "int", "int64", "uint16":
		return "number"
	case "bool":
		return "boolean"
	}
	return typ
}
