// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package github

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer"
)

// MaxRepositories is how many one token may be narrowed to.
const MaxRepositories = 500

func (c *Config) check() error {
	u, err := url.Parse(c.BaseURL)
	switch {
	case err != nil:
		return errors.New("baseURL is not a URL") // the parser's error quotes it, with a password
	case u.User != nil:
		return errors.New("baseURL must hold no user or password: the App proves itself by its private key")
	case u.Scheme != "https" || u.Hostname() == "":
		return fmt.Errorf("baseURL %q must be https with a host", c.BaseURL)
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(c.BaseURL, "#"):
		return fmt.Errorf("baseURL %q must have no query and no fragment", c.BaseURL)
	case c.AppID == "":
		return errors.New("appID must be set")
	case c.InstallationID <= 0:
		return fmt.Errorf("installationID %d must be positive", c.InstallationID)
	case c.Signer == nil:
		return errors.New("a private key is needed")
	case len(c.Repositories)+len(c.RepositoryIDs) > MaxRepositories:
		return fmt.Errorf("%d repositories must be at most %d", len(c.Repositories)+len(c.RepositoryIDs), MaxRepositories)
	case len(c.Permissions) == 0:
		return errors.New("permissions must be set: without them a token has all that the App has")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Permissions)) {
		if rank(c.Permissions[name]) == 0 {
			return fmt.Errorf("permission %s: %q must be read, write or admin", name, c.Permissions[name])
		}
	}
	return nil
}

// rank orders what a permission allows; zero: nothing that is known.
func rank(level string) int {
	switch level {
	case "read":
		return 1
	case "write":
		return 2
	case "admin":
		return 3
	}
	return 0
}

// narrow holds an answer to what was asked.
func (c *Config) narrow(o issuer.Object) error {
	granted := o.Object("permissions")
	if len(granted) == 0 {
		return issuer.NotMinted("answer does not tell the token's permissions")
	}
	for _, name := range slices.Sorted(maps.Keys(granted)) {
		got := rank(granted.Text(name))
		if name == "metadata" && got == rank("read") {
			continue // goes with every permission on repositories
		}
		if got == 0 || got > rank(c.Permissions[name]) {
			return issuer.NotMinted("the token has more permissions than were asked for")
		}
	}
	if len(c.Repositories)+len(c.RepositoryIDs) == 0 {
		return nil
	}
	if o.Text("repository_selection") != "selected" {
		return issuer.NotMinted("the token is not limited to the repositories that were asked for")
	}
	return c.sameRepositories(o["repositories"])
}

// sameRepositories holds the list of repositories, where there is one, to what was asked.
func (c *Config) sameRepositories(raw json.RawMessage) error {
	var list []struct {
		ID   int64  `json:"id"`
		Name string `json:"name"`
	}
	if len(raw) == 0 {
		return nil
	}
	if json.Unmarshal(raw, &list) != nil {
		return issuer.NotMinted("the list of the token's repositories cannot be read")
	}
	for _, r := range list {
		named := slices.ContainsFunc(c.Repositories, func(s string) bool { return strings.EqualFold(s, r.Name) })
		if !named && !slices.Contains(c.RepositoryIDs, r.ID) {
			return issuer.NotMinted("the token is good for a repository that was not asked for")
		}
	}
	return nil
}

// secondaryWait is what GitHub asks of clients that meet a secondary limit which tells no
// time.
const secondaryWait = time.Minute

// refusal words an answer. GitHub limits rates with 403 as well as with 429.
func refusal(a *issuer.Answer) error {
	e, ok := errors.AsType[*credential.Error](a.Refusal(""))
	if !ok {
		return fail(credential.NotMinted, "status %d", a.Status)
	}
	switch {
	case limited(a):
		e.Kind, e.RetryAfter = credential.Unreachable, limitWait(a)
		e.Err = fmt.Errorf("status %d: a rate limit of GitHub is used up", a.Status)
	case a.Status == http.StatusUnauthorized:
		e.Err = errors.New("status 401: GitHub does not accept the App's JWT: look at appID, the private key and this machine's clock")
	case a.Status == http.StatusForbidden:
		e.Err = errors.New("status 403: the App or its installation is suspended, or may not do this")
	case a.Status == http.StatusNotFound:
		e.Err = errors.New("status 404: this App has no such installation: look at installationID and baseURL")
	case a.Status == http.StatusUnprocessableEntity:
		e.Kind = credential.Refused
		e.Err = errors.New("status 422: the installation does not have all the permissions and repositories that are asked for")
	}
	return e
}

// limited reports a rate limit. That of a 403 shows in its header, or in the text of a
// secondary limit.
func limited(a *issuer.Answer) bool {
	switch a.Status {
	case http.StatusTooManyRequests:
		return true
	case http.StatusForbidden:
		return a.Header.Get("Retry-After") != "" || a.Header.Get("X-Ratelimit-Remaining") == "0" || secondary(a)
	}
	return false
}

func secondary(a *issuer.Answer) bool {
	o, err := a.Object()
	return err == nil && strings.Contains(strings.ToLower(o.Text("message")), "secondary rate limit")
}

// limitWait is how long not to ask. GitHub tells the reset by its own clock.
func limitWait(a *issuer.Answer) time.Duration {
	if d := a.RetryAfter(); d > 0 {
		return d
	}
	reset, err := strconv.ParseInt(a.Header.Get("X-Ratelimit-Reset"), 10, 64)
	if err != nil || a.Header.Get("X-Ratelimit-Remaining") != "0" {
		if a.Status == http.StatusForbidden {
			return secondaryWait
		}
		return 0
	}
	now, err := http.ParseTime(a.Header.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return max(time.Unix(reset, 0).Sub(now), 0)
}

func fail(k credential.Kind, format string, args ...any) *credential.Error {
	return &credential.Error{Kind: k, Err: fmt.Errorf(format, args...)}
}
