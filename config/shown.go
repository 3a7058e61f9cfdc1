// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"

	api "github.com/egret-proxy/egret/api/v1alpha1"
	"github.com/egret-proxy/egret/internal/secret"
)

// secretPath matches what is at or below a place that holds a secret or says where
// one is. Whole segments only.
var secretPath = regexp.MustCompile(`(^|\.)(clientSecret|value|password)($|[.\[])`)

// openProvider are the members of providers that never hold a secret, so that their
// faults can show what is there.
//
//nolint:gochecknoglobals // a constant table, made once from the types
var openProvider = sync.OnceValue(api.OpenMembers)

// secretPlace matches members that name where a secret is. Who has misspelt the name of
// a file must see it; who has pasted the secret there must not.
var secretPlace = regexp.MustCompile(`^(spec\.provider\..*\.(file|systemdCredential|stateFile|state)|upstream\.proxy\.password)$`)

// shown returns the value as a fault may show it.
func shown(path, value string) string {
	switch {
	case value == "":
		return ""
	case carriesCredentials(value):
		return secret.Redacted
	case hidden(path) && !namesFile(path, value):
		return secret.Redacted
	}
	return value
}

// namesFile reports whether a value at a hidden path is the name of a file. People's
// passwords are short words, as names of files are.
func namesFile(path, value string) bool {
	word := path == "upstream.proxy.password" && !strings.ContainsAny(value, "/.")
	return secretPlace.MatchString(path) && pathLike(value) && !word
}

// hidden reports whether values at this path are never shown, or only as the name of a
// file.
func hidden(path string) bool {
	if secretPath.MatchString(path) {
		return true
	}
	return strings.HasPrefix(path, "spec.provider") && !openProvider()[lastMember(path)]
}

// lastMember is the name that a path ends with, without an index.
func lastMember(path string) string {
	name := path[strings.LastIndexByte(path, '.')+1:]
	name, _, _ = strings.Cut(name, "[")
	return name
}

// carriesCredentials recognises URLs with user info or a query.
func carriesCredentials(value string) bool {
	_, rest, ok := strings.Cut(value, "://")
	return ok && strings.ContainsAny(rest, "@?")
}

// pathLike tells the name of a file from a secret that was pasted in its place. In
// doubt it is a secret.
func pathLike(s string) bool {
	if !printable(s) || findToken(s) != nil {
		return false
	}
	switch {
	case strings.HasPrefix(s, "/") || strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../"):
		return true
	case slices.Contains([]string{".txt", ".pem", ".key", ".token", ".secret", ".json", ".crt"}, filepath.Ext(s)):
		return true
	case strings.Contains(s, "/"):
		return !base64Like(s)
	}
	return len(s) < 24
}

// base64Like recognises base64 whose slashes make it look like a path.
func base64Like(s string) bool {
	return len(s) >= 32 && mixed(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("+/=", r)
	})
}

// Tokens are found by the run of characters that they are made of.
var (
	tokenRun = regexp.MustCompile(`[A-Za-z0-9_-]{12,}`)
	// knownToken are the beginnings that issuers give their tokens to be found by.
	knownToken = regexp.MustCompile(`^(xox[a-z]-|xapp-|gh[opsur]_|github_pat_|glpat-|sk-|AKIA|ASIA|eyJ)`)
)

// leastToken is the length from which a run of no known beginning may be a token.
const leastToken = 20

// findToken returns where in s something stands that looks like a token, nil for nowhere.
func findToken(s string) []int {
	for _, run := range tokenRun.FindAllStringIndex(s, -1) {
		text := s[run[0]:run[1]]
		if knownToken.MatchString(text) || len(text) >= leastToken && random(text) {
			return run
		}
	}
	return nil
}

// random tells what was drawn from names that people make: of the words between dashes
// one has upper case, lower case and digits, or letters and digits take turns often.
func random(run string) bool {
	turns := 0
	for _, word := range strings.FieldsFunc(run, func(r rune) bool { return r == '-' || r == '_' }) {
		if mixed(word) {
			return true
		}
		for i := 1; i < len(word); i++ {
			if digit(word[i]) != digit(word[i-1]) {
				turns++
			}
		}
	}
	return turns > 2
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

func mixed(s string) bool {
	return strings.ContainsFunc(s, unicode.IsUpper) && strings.ContainsFunc(s, unicode.IsLower) && strings.ContainsFunc(s, unicode.IsDigit)
}

// kept is how much of a token is shown: enough to find it again, and to tell whose it is.
const kept = 6

// withoutTokens cuts what looks like a token, wherever somebody has pasted it: as a
// value, as a key, and where a rule or a hint repeats them.
func (f Fault) withoutTokens() Fault {
	for _, text := range []*string{&f.Value, &f.Path} {
		from := 0
		if strings.HasPrefix(*text, "/") { // folders are the machine's own
			from = strings.LastIndexByte(*text, '/') + 1
		}
		run := findToken((*text)[from:])
		if run == nil {
			continue
		}
		token := (*text)[from+run[0] : from+run[1]]
		*text = (*text)[:from+run[0]] + cutToken(token)
		again := regexp.MustCompile("(?i)" + regexp.QuoteMeta(token))
		f.Rule, f.Hint = again.ReplaceAllStringFunc(f.Rule, cutToken), again.ReplaceAllStringFunc(f.Hint, cutToken)
	}
	f.Rule, f.Hint = cutTokens(f.Rule), cutTokens(f.Hint)
	return f
}

func cutToken(token string) string { return token[:kept] + "…" + secret.Redacted }

// cutTokens is for text that repeats values of other members. Long names of folders are
// left: a hint may be a command.
func cutTokens(text string) string {
	for from := 0; ; {
		run := findToken(text[from:])
		if run == nil {
			return text
		}
		start, end := from+run[0], from+run[1]
		from = end
		if start == 0 || text[start-1] != '/' || knownToken.MatchString(text[start:end]) {
			cut := cutToken(text[start:end])
			text, from = text[:start]+cut+text[end:], start+len(cut)
		}
	}
}
