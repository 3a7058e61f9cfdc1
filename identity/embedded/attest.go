// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/egret-proxy/egret/identity/kernel"
	"github.com/egret-proxy/egret/internal/secret"
)

// Workload is a local process as entries know it.
type Workload struct {
	Facts   kernel.Facts
	Process *kernel.Process // nil where only its user is known
	Cgroup  string          // path in the v2 hierarchy, empty where unknown
	// Exact: it is this very process. Else it is one of the cgroup's with the same user,
	// and entries that tell those apart do not match.
	Exact bool
}

// ErrDenied: no entry is for the workload.
var ErrDenied = errors.New("no identity is issued to this workload")

// Finer reports whether the entry tells processes of one user and cgroup apart. Who is
// known by a TCP socket, and so by its cgroup and user only, can never be known by it.
func (e Entry) Finer() bool { return len(e.GIDs) > 0 || e.Path != "" || e.SHA256 != "" }

// check says what is wrong with an entry that could never match.
func (e Entry) check() error {
	switch {
	case e.Path != "" && !path.IsAbs(e.Path):
		return fmt.Errorf("embedded issuer: entry of %q: path %q, must be absolute", e.ID, e.Path)
	case e.SHA256 != "" && !isDigest(e.SHA256):
		return fmt.Errorf("embedded issuer: entry of %q: sha256 %q, must be 64 lower-case hex digits", e.ID, e.SHA256)
	case e.Cgroup != "" && (!path.IsAbs(e.Cgroup) || path.Clean(e.Cgroup) != e.Cgroup || e.Cgroup == "/"):
		return fmt.Errorf("embedded issuer: entry of %q: cgroup %q, must be a path below /, without a slash at the end", e.ID, e.Cgroup)
	case e.Unit != "" && !isUnit(e.Unit):
		return fmt.Errorf("embedded issuer: entry of %q: unit %q, must be a systemd unit with its suffix, such as %q", e.ID, e.Unit, "nightly.service")
	}
	return nil
}

func isDigest(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// matches asks for what is cheap first.
func (e Entry) matches(w Workload) bool {
	switch {
	case !slices.Contains(e.UIDs, w.Facts.UID):
		return false
	case e.Finer() && (!w.Exact || w.Process == nil):
		return false
	case len(e.GIDs) > 0 && !slices.Contains(e.GIDs, w.Facts.GID):
		return false
	case e.Cgroup != "" && w.Cgroup != e.Cgroup && !strings.HasPrefix(w.Cgroup, e.Cgroup+"/"):
		return false
	case e.Unit != "" && unitOf(w.Cgroup) != e.Unit:
		return false
	}
	return e.Path == "" && e.SHA256 == "" || e.runs(w.Process)
}

// runs says whether the process runs the entry's program, and the same one all the
// while that it is looked at.
func (e Entry) runs(p *kernel.Process) bool {
	before, err := p.Executable()
	if err != nil || e.Path != "" && !isAt(before, e.Path) {
		return false
	}
	if e.SHA256 != "" {
		if digest, err := p.SHA256(); err != nil || digest != e.SHA256 {
			return false
		}
	}
	after, err := p.Executable()
	return err == nil && after == before
}

// isAt says whether a program is the file at a path, here. What the process itself has
// at that path is no evidence: in a mount namespace of one's own anything can be put there.
func isAt(program kernel.Executable, path string) bool {
	here, err := kernel.Stat(path)
	return err == nil && program == here
}

// unitOf returns the system unit that a cgroup belongs to: the first part of its path
// that is no slice. What is below a unit is named by whoever runs in it.
func unitOf(cgroup string) string {
	for part := range strings.SplitSeq(strings.TrimPrefix(cgroup, "/"), "/") {
		part = strings.TrimPrefix(part, "_") // systemd escapes names that the kernel could take for its own
		if strings.HasSuffix(part, ".slice") {
			continue
		}
		if isUnit(part) {
			return part
		}
		return ""
	}
	return ""
}

func isUnit(s string) bool {
	dot := strings.LastIndexByte(s, '.')
	if dot <= 0 || strings.ContainsAny(s, "/ ") {
		return false
	}
	return slices.Contains([]string{"service", "scope", "socket", "mount", "swap"}, s[dot+1:])
}

// Watch tells a caller in the same process what FetchX509SVID tells one at the socket:
// the workload's SVIDs, now and whenever they change. An update without SVIDs says that
// no entry is for it any more. It returns the error of ctx, of update, or of minting.
func (s *Server) Watch(ctx context.Context, w Workload, update func([]*x509svid.SVID) error) error {
	for {
		mine, changed := s.entries.of(w)
		now, err := s.issuer.authorities()
		if err != nil {
			return err
		}
		svids, again, err := s.mint(mine, now)
		if err != nil {
			return err
		}
		if err := update(svids); err != nil {
			return err
		}
		if err := wait(ctx, again, changed, now.changed); err != nil {
			return ctx.Err()
		}
	}
}

// mint makes the SVIDs of entries, and says after how long they want renewing.
func (s *Server) mint(mine []Entry, now *authorities) ([]*x509svid.SVID, time.Duration, error) {
	svids := make([]*x509svid.SVID, 0, len(mine))
	again := s.issuer.options.X509TTL / 2
	for _, e := range mine {
		svid, err := now.signer.mintX509(e.ID, s.issuer.options.X509TTL)
		if err != nil {
			return nil, 0, fmt.Errorf("embedded issuer: mint X.509-SVID: %w", err)
		}
		svid.Hint = e.Hint
		again = min(again, time.Until(svid.Certificates[0].NotAfter)/2)
		svids = append(svids, svid)
	}
	return svids, max(again, time.Millisecond), nil
}

// JWTSVID issues a JWT-SVID of one of the workload's identities. ErrDenied where id is
// none of them.
func (s *Server) JWTSVID(w Workload, id spiffeid.ID, audience string) (secret.Secret, time.Time, error) {
	none := secret.Secret{}
	if audience == "" {
		return none, time.Time{}, errors.New("embedded issuer: no audience given; name the service that the token is for")
	}
	mine, _ := s.entries.of(w)
	if !slices.ContainsFunc(mine, func(e Entry) bool { return e.ID == id }) {
		return none, time.Time{}, fmt.Errorf("%w: %q", ErrDenied, id)
	}
	now, err := s.issuer.authorities()
	if err != nil {
		return none, time.Time{}, err
	}
	ttl := s.issuer.options.JWTTTL
	ends := time.Now().Add(ttl).Truncate(time.Second)
	token, err := now.signer.mintJWT(jwt.Claims{Issuer: s.issuer.options.JWTIssuer, Subject: id.String(), Audience: jwt.Audience{audience}}, ttl)
	return secret.New(token), ends, err
}

// Finer returns the entries that no caller over TCP can have.
func (s *Server) Finer() []Entry {
	s.entries.mu.Lock()
	defer s.entries.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.entries.list), func(e Entry) bool { return !e.Finer() })
}
