// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"regexp"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Bounds of RoleSessionName (AssumeRoleWithWebIdentity in the STS API Reference).
const (
	minSessionName = 2
	maxSessionName = 64
	workloadName   = "{workload}"
)

var sessionForm = regexp.MustCompile(`^[\w+=,.@-]*$`)

// CheckSessionName reports a template that cannot become a session's name: it holds
// {workload} at most once, and otherwise what AWS takes.
func CheckSessionName(template string) error {
	before, after, found := strings.Cut(template, workloadName)
	rest := before + after
	switch {
	case !sessionForm.MatchString(rest):
		return errors.New("must hold {workload} at most once, and else letters, digits and _+=,.@-")
	case !found && (len(rest) < minSessionName || len(rest) > maxSessionName):
		return errors.New("must have 2 to 64 characters")
	case found && len(rest) > 24:
		return errors.New("must have at most 24 characters beside {workload}")
	}
	return nil
}

// sessionName fills a template, by default {workload} alone. The name of a session is
// what CloudTrail shows, so it says who was behind it.
func sessionName(template string, id spiffeid.ID) string {
	if template == "" {
		template = workloadName
	}
	before, after, found := strings.Cut(template, workloadName)
	if !found {
		return template
	}
	return before + workload(id, maxSessionName-len(before)-len(after)) + after
}

// workload writes a SPIFFE ID so that AWS takes it, in at most limit characters: its path
// with plus signs for slashes, then its trust domain. Neither + nor @ nor , can be in a
// SPIFFE ID, so that no two IDs have the same name. An ID that is too long keeps the end
// of its path, with a hash of the whole.
func workload(id spiffeid.ID, limit int) string {
	if id.IsZero() { // a credential that is shared by declaration
		return "egret"
	}
	path := strings.ReplaceAll(strings.TrimPrefix(id.Path(), "/"), "/", "+")
	if name := path + "@" + id.TrustDomain().Name(); len(name) <= limit {
		return name
	}
	sum := sha256.Sum256([]byte(id.String()))
	hash := "," + hex.EncodeToString(sum[:10])
	return path[max(0, len(path)-(limit-len(hash))):] + hash
}
