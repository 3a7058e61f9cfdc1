// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

func (c *Config) check() error {
	if err := checkAddress(c.Address); err != nil {
		return err
	}
	if c.Namespace != "" && !plainPath(strings.Trim(c.Namespace, "/")) {
		return fmt.Errorf("namespace %q must be a path of printable ASCII", c.Namespace)
	}
	if err := c.checkSource(); err != nil {
		return err
	}
	if c.ClientToken {
		return nil
	}
	return checkKeys(c.Keys)
}

func checkAddress(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("address is not a URL") // the parser's error quotes it, with a password
	case u.User != nil:
		return errors.New("address must hold no user or password: workloads log in with their SVIDs")
	case u.Scheme != "https" || u.Hostname() == "":
		return fmt.Errorf("address %q must be https with a host", s)
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#"):
		return fmt.Errorf("address %q must have no query and no fragment", s)
	case u.Path != "" && !plainPath(strings.Trim(u.Path, "/")):
		return fmt.Errorf("address %q must have a plain path, or none", s)
	case strings.HasSuffix(u.Path, "/v1"):
		return fmt.Errorf("address %q must not end in /v1, which is added", s)
	}
	return nil
}

// checkSource holds c to exactly one source, and that to its rules.
func (c *Config) checkSource() error {
	set := 0
	for _, there := range []bool{c.KV != nil, c.Dynamic != nil, c.ClientToken, c.Unwrap != nil} {
		if there {
			set++
		}
	}
	if set != 1 {
		return errors.New("exactly one of kv, dynamic, clientToken and unwrap must be set")
	}
	if u := c.Unwrap; u != nil {
		if c.Login.Method != "" {
			return errors.New("login would be ignored with unwrap, whose token is its own proof: remove it")
		}
		if u.Token == nil {
			return errors.New("unwrap needs a wrapping token")
		}
		if u.State == "" {
			return errors.New("unwrap.state must name a file: a wrapping token can be opened only once")
		}
		return checkPath("unwrap.creationPath", u.CreationPath)
	}
	if err := c.Login.check(); err != nil {
		return err
	}
	return c.checkRead()
}

func (c *Config) checkRead() error {
	if kv := c.KV; kv != nil {
		if kv.Version < 0 {
			return fmt.Errorf("kv.version %d must not be negative", kv.Version)
		}
		return errors.Join(checkPath("kv.mount", kv.Mount), checkPath("kv.path", kv.Path))
	}
	if d := c.Dynamic; d != nil {
		return checkPath("dynamic.path", d.Path)
	}
	return nil
}

func (l *Login) check() error {
	switch l.Method {
	case JWT, Cert:
	default:
		return fmt.Errorf("login.method %q must be %s or %s", l.Method, JWT, Cert)
	}
	if l.Role == "" {
		return errors.New("login.role must be set: without it Vault would choose")
	}
	return checkPath("login.mount", l.Mount)
}

func checkPath(name, path string) error {
	if !plainPath(path) {
		return fmt.Errorf("%s %q must be a path such as team/app, without a slash at its ends, empty or dot segments", name, path)
	}
	return nil
}

// plainPath reports a path that means the same to every reader.
func plainPath(s string) bool {
	for seg := range strings.SplitSeq(s, "/") {
		if seg == "" || seg == "." || seg == ".." {
			return false
		}
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return r > unicode.MaxASCII || r <= ' ' || r == 0x7f || strings.ContainsRune(`?#%\`, r)
	}) < 0
}

func checkKeys(keys map[string]string) error {
	if len(keys) == 0 {
		return errors.New("keys must name at least one value, as in {token: api_key}")
	}
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		if name == "" || keys[name] == "" {
			return fmt.Errorf("keys: value %q and its key %q must not be empty", name, keys[name])
		}
	}
	return nil
}
