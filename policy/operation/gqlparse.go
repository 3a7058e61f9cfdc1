// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package operation

import "errors"

// The parser of executable documents (GraphQL, October 2021, 2.2 to 2.12). It keeps only
// what the root fields follow from: operations, fragments and their first level.

// document is a parsed document.
type document struct {
	operations []gqlOperation
	fragments  map[string][]selection
}

type gqlOperation struct {
	kind, name string
	root       []selection
}

// selection is one entry of a selection set: a field, the spread of a fragment, or an
// inline fragment.
type selection struct {
	field  string // its name, not its alias
	spread string
	inline []selection
}

type gqlParser struct {
	lex lexer
	tok token // the next one
	err error
}

func parseDocument(s string) (document, error) {
	if err := sourceText(s); err != nil {
		return document{}, err
	}
	p := &gqlParser{lex: lexer{s: s}}
	p.advance()
	d := document{fragments: map[string][]selection{}}
	for p.err == nil && p.tok.kind != tokenEnd {
		p.definition(&d)
	}
	return d, p.err
}

// advance reads the next token. After an error there is none.
func (p *gqlParser) advance() {
	if p.err == nil {
		p.tok, p.err = p.lex.next()
	}
	if p.err != nil {
		p.tok = token{}
	}
}

func (p *gqlParser) fail() {
	if p.err == nil {
		p.err = errGraphQL
	}
	p.tok = token{}
}

// sees reports whether a punctuator comes next.
func (p *gqlParser) sees(text string) bool { return p.tok == token{tokenPunctuator, text} }

// take consumes a punctuator if it comes next.
func (p *gqlParser) take(text string) bool {
	if !p.sees(text) {
		return false
	}
	p.advance()
	return true
}

func (p *gqlParser) expect(text string) {
	if !p.take(text) {
		p.fail()
	}
}

func (p *gqlParser) name() string {
	if p.tok.kind != tokenName {
		p.fail()
		return ""
	}
	text := p.tok.text
	p.advance()
	return text
}

func (p *gqlParser) definition(d *document) {
	if p.sees("{") { // the short form of a query
		d.operations = append(d.operations, gqlOperation{kind: "query", root: p.selections(0)})
		return
	}
	switch word := p.name(); word {
	case "query", "mutation", "subscription":
		op := gqlOperation{kind: word}
		if p.tok.kind == tokenName {
			op.name = p.name()
		}
		p.variables()
		p.directives(0)
		op.root = p.selections(0)
		d.operations = append(d.operations, op)
	case "fragment":
		p.fragment(d)
	default: // definitions of types, and what is none
		p.fail()
	}
}

func (p *gqlParser) fragment(d *document) {
	name := p.name()
	if name == "on" || p.name() != "on" {
		p.fail()
	}
	p.name()
	p.directives(0)
	set := p.selections(0)
	if _, twice := d.fragments[name]; twice {
		p.fail()
	}
	d.fragments[name] = set
}

// selections reads { … }, which must not be empty.
func (p *gqlParser) selections(depth int) []selection {
	var out []selection
	p.expect("{")
	for p.err == nil && !p.take("}") {
		if depth > maxDepth {
			p.fail()
		}
		out = append(out, p.selection(depth))
	}
	if len(out) == 0 {
		p.fail()
	}
	return out
}

func (p *gqlParser) selection(depth int) selection {
	if p.take("...") {
		return p.spread(depth)
	}
	s := selection{field: p.name()}
	if p.take(":") { // what came was the alias
		s.field = p.name()
	}
	p.arguments(depth)
	p.directives(depth)
	if p.sees("{") {
		p.selections(depth + 1)
	}
	return s
}

func (p *gqlParser) spread(depth int) selection {
	if p.tok.kind == tokenName && p.tok.text != "on" {
		s := selection{spread: p.name()}
		p.directives(depth)
		return s
	}
	if p.tok.kind == tokenName {
		p.advance()
		p.name()
	}
	p.directives(depth)
	return selection{inline: p.selections(depth + 1)}
}

func (p *gqlParser) directives(depth int) {
	for p.err == nil && p.take("@") {
		p.name()
		p.arguments(depth)
	}
}

func (p *gqlParser) arguments(depth int) {
	if !p.take("(") {
		return
	}
	for first := true; p.err == nil && (first || !p.take(")")); first = false {
		p.name()
		p.expect(":")
		p.value(depth + 1)
	}
}

func (p *gqlParser) variables() {
	if !p.take("(") {
		return
	}
	for first := true; p.err == nil && (first || !p.take(")")); first = false {
		p.expect("$")
		p.name()
		p.expect(":")
		p.typeRef(0)
		if p.take("=") {
			p.value(0)
		}
		p.directives(0)
	}
}

func (p *gqlParser) typeRef(depth int) {
	if depth > maxDepth {
		p.fail()
	}
	if p.take("[") {
		p.typeRef(depth + 1)
		p.expect("]")
	} else {
		p.name()
	}
	p.take("!")
}

func (p *gqlParser) value(depth int) {
	switch {
	case p.err != nil:
	case depth > maxDepth:
		p.fail()
	case p.tok.kind == tokenNumber, p.tok.kind == tokenString, p.tok.kind == tokenName:
		p.advance()
	case p.take("$"):
		p.name()
	case p.take("["):
		for p.err == nil && !p.take("]") {
			p.value(depth + 1)
		}
	case p.take("{"):
		for p.err == nil && !p.take("}") {
			p.name()
			p.expect(":")
			p.value(depth + 1)
		}
	default:
		p.fail()
	}
}

// rootFields returns the fields of the operation that is selected by name: the only one
// where the name is empty. Conditions (@skip, types) are not weighed: what may be asked
// for counts as asked for.
func (d document) rootFields(name string) ([]string, error) {
	op, err := d.selected(name)
	if err != nil {
		return nil, err
	}
	w := walker{d: d, kind: op.kind, seen: map[string]bool{}}
	err = w.walk(op.root)
	return w.out, err
}

func (d document) selected(name string) (gqlOperation, error) {
	var found []gqlOperation
	names := map[string]bool{}
	for _, op := range d.operations {
		if names[op.name] || op.name == "" && len(d.operations) > 1 {
			return op, errors.New("the document's operations cannot be told apart")
		}
		names[op.name] = true
		if name == "" || name == op.name {
			found = append(found, op)
		}
	}
	if len(found) != 1 {
		return gqlOperation{}, errors.New("the request does not say which of the document's operations it means")
	}
	return found[0], nil
}

type walker struct {
	d    document
	kind string
	seen map[string]bool // fragments
	out  []string
}

func (w *walker) walk(set []selection) error {
	for _, s := range set {
		switch {
		case s.field != "":
			w.out = append(w.out, w.kind+":"+s.field)
		case s.spread == "":
			if err := w.walk(s.inline); err != nil {
				return err
			}
		case !w.seen[s.spread]:
			w.seen[s.spread] = true
			f, ok := w.d.fragments[s.spread]
			if !ok {
				return errors.New("the document spreads a fragment that it does not define")
			}
			if err := w.walk(f); err != nil {
				return err
			}
		}
	}
	return nil
}
