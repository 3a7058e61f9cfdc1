// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/internal/secret"
)

// MaxValue is the most that a value may hold, in bytes.
const MaxValue = 64 << 10

// SecretConfig names one key of a Secret.
type SecretConfig struct {
	Cluster     Cluster
	Namespace   string
	Name        string
	Key         string // whose value is {token}
	UsernameKey string // whose value is {username}; may be empty
}

// Secret serves one key of a Secret and follows it: list, then watch from there, by name
// alone, so that a Role with resourceNames is enough. It implements credential.Provider and
// credential.Notifier. Safe for concurrent use. Close it.
type Secret struct {
	cfg     SecretConfig
	client  *client
	path    string // of the list; a watch adds to it
	changes chan struct{}
	cancel  context.CancelFunc
	done    chan struct{}
	once    sync.Once

	mu        sync.Mutex
	following bool   // a watch is open, so that now is how it is
	now       answer // what the follower has seen last
	served    *answer
}

// answer is what the Secret comes to: a token, or why there is none.
type answer struct {
	token credential.Token
	err   error
}

// same reports whether two answers are the same to whoever gets them.
func (a answer) same(b answer) bool {
	if a.err != nil || b.err != nil {
		return a.err != nil && b.err != nil && a.err.Error() == b.err.Error()
	}
	return a.token.Values["token"].Equal(b.token.Values["token"]) && a.token.Values["username"].Equal(b.token.Values["username"])
}

// NewSecret starts to follow the Secret. It asks nothing before it returns, and neither
// the Secret nor the server needs to be there yet.
func NewSecret(c SecretConfig) (*Secret, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("kubernetes secret: %w", err)
	}
	k, err := newClient(c.Cluster)
	if err != nil {
		return nil, fmt.Errorf("kubernetes secret: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Secret{
		cfg: c, client: k, changes: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{}),
		path: "/api/v1/namespaces/" + c.Namespace + "/secrets?fieldSelector=" + url.QueryEscape("metadata.name="+c.Name),
	}
	f := &follower{secret: s, log: k.Logger.With("secret", c.Namespace+"/"+c.Name)}
	go func() {
		defer close(s.done)
		f.run(ctx)
	}()
	return s, nil
}

func (c *SecretConfig) check() error {
	rules := []error{
		named("namespace", c.Namespace, CheckName(c.Namespace)),
		named("secret", c.Name, CheckName(c.Name)),
		named("key", c.Key, CheckKey(c.Key)),
	}
	if c.UsernameKey != "" {
		rules = append(rules, named("usernameKey", c.UsernameKey, CheckKey(c.UsernameKey)))
	}
	return errors.Join(rules...)
}

// Fetch implements credential.Provider: "token" is the value of the key, "username" that
// of the other one. While a watch is open the answer is at hand; otherwise the server is
// asked, since what was seen before may not hold any more. Refused: egret's own account
// may not read the Secret. NotMinted: it or its key is not there, empty, or not one line.
// Unreachable: network, time-out, 429, 5xx.
func (s *Secret) Fetch(ctx context.Context, _ credential.Key, _ credential.Subject) (credential.Token, error) {
	a, ok := s.followed()
	if !ok {
		_, listed := s.list(ctx)
		a = s.serve(listed)
	}
	return a.token, a.err
}

// followed returns what a watch has told, where one is open.
func (s *Secret) followed() (answer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.following {
		return answer{}, false
	}
	a := s.now
	s.served = &a
	return a, true
}

// serve notes what a caller is given. A watch that was opened meanwhile knows better.
func (s *Secret) serve(a answer) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.following {
		a = s.now
	}
	s.served = &a
	return a
}

// see takes what the follower has seen, and tells where somebody was given another.
func (s *Secret) see(a answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = a
	if s.served == nil || s.served.same(a) {
		return
	}
	s.served = nil
	select {
	case s.changes <- struct{}{}:
	default: // told already, and not heard yet
	}
}

func (s *Secret) follow(is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.following = is
}

// Changes implements credential.Notifier.
func (s *Secret) Changes() <-chan struct{} { return s.changes }

// Close ends the following and closes the channel of Changes.
func (s *Secret) Close() error {
	s.once.Do(func() {
		s.cancel()
		<-s.done
		s.client.close()
		close(s.changes)
	})
	return nil
}

// where names the Secret in errors.
func (s *Secret) where() string {
	return fmt.Sprintf("secret %q of namespace %q", s.cfg.Name, s.cfg.Namespace)
}

// object is a Secret, as far as it is of use.
type object struct {
	Metadata struct {
		Name            string `json:"name"`
		Namespace       string `json:"namespace"`
		ResourceVersion string `json:"resourceVersion"`
	} `json:"metadata"`
	Data map[string][]byte `json:"data"`
}

// is reports whether o is the Secret: a server that does not know the selector gives more.
func (s *Secret) is(o *object) bool {
	return o.Metadata.Name == s.cfg.Name && o.Metadata.Namespace == s.cfg.Namespace
}

// list asks for the Secret, and for the version to watch from ("" with an error that says
// nothing about the Secret).
func (s *Secret) list(ctx context.Context) (version string, a answer) {
	got, err := s.client.call(ctx, http.MethodGet, s.path, nil)
	if err == nil && got.Status != http.StatusOK {
		err = refusal(got, "list secrets")
	}
	if err != nil {
		return "", answer{err: issuer.Within(s.where(), err)}
	}
	var l struct {
		Kind     string `json:"kind"`
		Metadata struct {
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
		Items []object `json:"items"`
	}
	if json.Unmarshal(got.Body, &l) != nil || l.Kind != "SecretList" || l.Metadata.ResourceVersion == "" {
		return "", answer{err: issuer.Within(s.where(), issuer.NotMinted("the answer must be a SecretList"))}
	}
	for i := range l.Items {
		if s.is(&l.Items[i]) {
			return l.Metadata.ResourceVersion, s.read(&l.Items[i])
		}
	}
	return l.Metadata.ResourceVersion, s.absent()
}

func (s *Secret) absent() answer {
	return answer{err: issuer.Within(s.where(), issuer.NotMinted("is not there"))}
}

func (s *Secret) read(o *object) answer {
	token, err := value(o, s.cfg.Key)
	if err != nil {
		return answer{err: issuer.Within(s.where(), err)}
	}
	values := map[string]secret.Secret{"token": token}
	if s.cfg.UsernameKey != "" {
		if values["username"], err = value(o, s.cfg.UsernameKey); err != nil {
			return answer{err: issuer.Within(s.where(), err)}
		}
	}
	return answer{token: credential.Token{Values: values}}
}

// value reads one key, without the line end that editors and shells leave.
func value(o *object, key string) (secret.Secret, error) {
	b, ok := o.Data[key]
	if !ok {
		return secret.Secret{}, issuer.NotMinted("has no key %q", key)
	}
	b = bytes.TrimRight(b, "\r\n")
	var rule error
	switch {
	case len(b) == 0:
		rule = errors.New("is empty")
	case len(b) > MaxValue:
		rule = errors.New("must not be larger than 64 KiB")
	case bytes.ContainsAny(b, "\r\n\x00"):
		rule = errors.New("must be one line of text: only the last line end is cut")
	default:
		return secret.New(string(b)), nil
	}
	return secret.Secret{}, issuer.NotMinted("key %q %w", key, rule)
}
