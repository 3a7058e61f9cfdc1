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
	PodTokenFile = "/var/run/secrets/kubernetes.io/serviceaccount/token" //nolint:gosec // a path
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
	u, err := url.Parse(c.Server)
	switch {
	case err != nil:
		return errors.New("server is not a URL") // the parser's error quotes it, with a password
	case u.User != nil:
		return errors.New("server must hold no user or password: use tokenFile")
	case u.Scheme != "https" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || strings.ContainsAny(c.Server, "?#"):
		return fmt.Errorf("server %q must be https://host:port", c.Server)
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

// checkName holds a name to what Kubernetes allows (a DNS subdomain), so that in a path it
// cannot be more than one segment.
func checkName(what, s string) error {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || i > 0 && (c == '-' || c == '.')) {
			return fmt.Errorf("%s %q must be a name of Kubernetes: lower-case letters, digits, - and .", what, s)
		}
	}
	if s == "" || len(s) > 253 {
		return fmt.Errorf("%s %.20q must have 1 to 253 characters", what, s)
	}
	return nil
}
