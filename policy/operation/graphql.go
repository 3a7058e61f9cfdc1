// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package operation

import "errors"

// graphqlParams are the parameters of "GraphQL over HTTP", and those under which servers
// take persisted documents.
//
//nolint:gochecknoglobals // a constant table
var graphqlParams = []string{
	"query", "mutation", "operationName", "variables", "extensions", "operations", "map",
	"id", "queryId", "query_id", "documentId", "doc_id", "hash", "sha256Hash", "persistedQuery", "batch",
}

var errPersisted = errors.New("the request names a document that is not in it")

// readGraphQL returns every root field that the selected operation asks for.
func readGraphQL(r *Request) ([]string, error) {
	query, err := parsePairs(r.Query)
	if err != nil {
		return nil, err
	}
	var doc, name string
	switch {
	case bodiless(r.Method):
		doc, name, err = graphqlQuery(r, query)
	case r.Method != "POST":
		err = errors.New("GraphQL is read from GET, HEAD and POST only")
	default:
		doc, name, err = graphqlBody(r, query)
	}
	if err != nil {
		return nil, err
	}
	d, err := parseDocument(doc)
	if err != nil {
		return nil, err
	}
	return d.rootFields(name)
}

// graphqlQuery reads the parameters of a GET.
func graphqlQuery(r *Request, query []pair) (doc, name string, err error) {
	if err := noBody(r); err != nil {
		return "", "", err
	}
	for _, p := range query {
		if p.name != "query" && p.name != "operationName" && p.name != "variables" && absent([]pair{p}, graphqlParams...) != nil {
			return "", "", errPersisted
		}
	}
	doc, found, err := field(query, "query")
	if err == nil && !found {
		err = errPersisted
	}
	if err != nil {
		return "", "", err
	}
	name, _, err = field(query, "operationName")
	return doc, name, err
}

// graphqlBody reads a POST, whose query string must not speak of the operation: some
// servers prefer it to the body.
func graphqlBody(r *Request, query []pair) (doc, name string, err error) {
	if err := absent(query, graphqlParams...); err != nil {
		return "", "", err
	}
	t, err := wantType(r.Header, typeJSON, typeGraphQL)
	if err != nil {
		return "", "", err
	}
	if t == typeGraphQL {
		return string(r.Body), "", nil
	}
	v, err := jsonBody(r.Body)
	if err != nil {
		return "", "", err
	}
	if err := v.onlyMembers("query", "operationName", "variables", "extensions"); err != nil {
		return "", "", err
	}
	if err := v.noPersisted(); err != nil {
		return "", "", err
	}
	q, err1 := v.member("query")
	n, err2 := v.member("operationName")
	switch {
	case err1 != nil || err2 != nil:
		return "", "", errDuplicate
	case q.kind != jsonString:
		return "", "", errPersisted
	case n.kind != jsonString && n.kind != jsonNull:
		return "", "", errors.New("the operation's name is not a string")
	}
	return q.text, n.text, nil
}

// noPersisted refuses extensions that stand for another document.
func (v jsonValue) noPersisted() error {
	x, err := v.member("extensions")
	switch {
	case err != nil:
		return err
	case x.kind != jsonNull && x.kind != jsonObject:
		return errors.New("the extensions are not an object")
	}
	for _, m := range x.members {
		if absent([]pair{{name: m.name}}, graphqlParams...) != nil {
			return errPersisted
		}
	}
	return nil
}
