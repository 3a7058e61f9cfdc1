// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"errors"
	"fmt"
	"strings"

	"github.com/egret-proxy/egret/internal/secret"
)

// template is literal text with {name} placeholders: lits[0] names[0] lits[1] …
// There is no escape: a header value with a literal brace has not been met.
type template struct {
	lits  []string
	names []string
}

func parseTemplate(s string) (template, error) {
	var t template
	for {
		lit, rest, found := strings.Cut(s, "{")
		if strings.Contains(lit, "}") {
			return template{}, errors.New("has } without {: write a placeholder as {token}")
		}
		t.lits = append(t.lits, lit)
		if !found {
			return t, nil
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed || !placeholderName(name) {
			return template{}, errors.New("has an unfinished placeholder: write it as {token}, with lower-case letters, digits and _")
		}
		t.names = append(t.names, name)
		s = after
	}
}

func placeholderName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || i > 0 && (c >= '0' && c <= '9' || c == '_')) {
			return false
		}
	}
	return s != ""
}

// render fills the placeholders and refuses what must not go into a header (MUST C10).
func (t template) render(values map[string]secret.Secret) (secret.Secret, error) {
	var b strings.Builder
	for i, lit := range t.lits {
		b.WriteString(lit)
		if i == len(t.names) {
			break
		}
		v, ok := values[t.names[i]]
		if !ok || v.IsZero() {
			return secret.Secret{}, fmt.Errorf("the provider gave no value for {%s}", t.names[i])
		}
		b.WriteString(v.Reveal())
	}
	if err := checkFieldValue(b.String()); err != nil {
		return secret.Secret{}, err
	}
	return secret.New(b.String()), nil
}

// checkFieldValue holds s to the field-value of RFC 9110, 5.5. The error never quotes s.
func checkFieldValue(s string) error {
	if s == "" {
		return errors.New("value is empty")
	}
	if s != strings.Trim(s, " \t") {
		return errors.New("value begins or ends with white space, which receivers cut off")
	}
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return fmt.Errorf("value holds the control byte 0x%02x, which no header may carry", c)
		}
	}
	return nil
}
