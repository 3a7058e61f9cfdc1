// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package kubernetes is the provider of what a Kubernetes API server holds or mints: one
// key of a Secret, which is followed while it changes, and tokens of a service account
// (TokenRequest). It speaks plain HTTP and JSON and needs no more rights than the one
// object: list and watch of a Secret by its name, create of one serviceaccounts/token.
package kubernetes

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// Where the kubelet puts what a pod needs to reach its API server, and the name that is
// always in the server's certificate.
const (
	PodServer    = "https://kubernetes.default.svc"
	PodTokenFile = "/var/run/secrets/kubernetes.io/serviceaccount/token"
	PodRootsFile = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
)

// Cluster says how kube-apiserver is reached, and as whom. Nothing of an application's
// request reaches it (MUST T10).
type Cluster struct {
	Server    string         // https://host:port, nothing after it
	Roots     *x509.CertPool // what the server is verified by
	RootsFile string         // or a PEM file of the same, read anew for each call, since it is replaced in a pod
	TokenFile string         // egret's own service-account token, read anew for each call, since the kubelet replaces it

	Dial    func(ctx context.Context, network, addr string) (net.Conn, error) // nil: a plain dialer
	Proxy   func(*http.Request) (*url.URL, error)                             // nil: none; the environment is never asked
	Timeout time.Duration                                                     // of one call; default 8 s
	Logger  *slog.Logger                                                      // nil: silent
}

// PodAddress is "host:port" of the API server as the kubelet tells every pod. lookup is
// os.LookupEnv.
func PodAddress(lookup func(string) (string, bool)) (string, error) {
	host, _ := lookup("KUBERNETES_SERVICE_HOST")
	port, _ := lookup("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return "", errors.New("egret runs in no pod (KUBERNETES_SERVICE_HOST and _PORT are not set): name the API server with server, its CA with endpoint.roots, and a tokenFile")
	}
	return net.JoinHostPort(host, port), nil
}

func (c *Cluster) check() error {
	if err := CheckServer(c.Server); err != nil {
		return fmt.Errorf("server %w", err) // which may hold a password
	}
	switch {
	case (c.Roots == nil) == (c.RootsFile == ""):
		return errors.New("exactly one of the roots and a file of them must be given: the CA of a cluster is its own")
	case !filepath.IsAbs(c.TokenFile):
		return fmt.Errorf("tokenFile %q must be an absolute path", c.TokenFile)
	}
	return nil
}

func (c *Cluster) setDefaults() {
	if c.Dial == nil {
		c.Dial = (&net.Dialer{Timeout: 3 * time.Second}).DialContext
	}
	if c.Timeout <= 0 {
		c.Timeout = 8 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// CheckName holds a name to what Kubernetes allows (a DNS subdomain), so that in a path it
// cannot be more than one segment.
func CheckName(s string) error {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || i > 0 && (c == '-' || c == '.')) {
			return errors.New("must be a name of Kubernetes: lower-case letters, digits, . and -")
		}
	}
	return checkLength(s)
}

// CheckKey holds a key to what a Secret may have.
func CheckKey(s string) error {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_') {
			return errors.New("must be a key of a Secret: letters, digits, ., _ and -")
		}
	}
	return checkLength(s)
}

func checkLength(s string) error {
	if s == "" || len(s) > 253 {
		return errors.New("must have 1 to 253 characters")
	}
	return nil
}

// CheckServer holds the address of an API server to https://host:port.
func CheckServer(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("must be a URL") // the parser's error quotes it, with a password
	case u.User != nil:
		return errors.New("must hold no user or password: use tokenFile")
	case u.Scheme != "https" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || strings.ContainsAny(s, "?#"):
		return errors.New("must be https://host:port")
	}
	return nil
}

// named says which setting a rule is about. The value is one that has passed no rule, and
// is quoted in part only.
func named(what, value string, rule error) error {
	if rule == nil {
		return nil
	}
	return fmt.Errorf("%s %.60q %w", what, value, rule)
}
