// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/identity/kubetoken"
	"github.com/egret-proxy/egret/internal/secret"
)

// How kube-apiserver is talked to: a few connections, each call within the handshake's
// bound of the caller that waits for it.
const (
	reviewConnections = 4
	reviewTime        = 10 * time.Second
)

// byKubernetesToken makes the resolver of a listener whose callers send a projected
// service-account token.
func (n *Node) byKubernetesToken(c *config.KubernetesToken) (identity.Resolver, error) {
	pem, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, fmt.Errorf("identify.kubernetesToken.ca: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("identify.kubernetesToken.ca: %q holds no certificate", c.CA)
	}
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true, MaxConnsPerHost: reviewConnections, IdleConnTimeout: time.Minute,
	}
	n.onClose(transport.CloseIdleConnections)
	client, err := kubetoken.NewClient(kubetoken.ClientOptions{
		Server: strings.TrimSuffix(c.Server, "/"),
		HTTP: &http.Client{
			Transport: transport, Timeout: reviewTime,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		Token: func() (secret.Secret, error) { return readToken(c.TokenFile) },
	})
	if err != nil {
		return nil, err
	}
	return kubetoken.New(kubetoken.Options{Client: client, Audience: c.Audience, ID: c.ID, Node: c.Node, Age: c.Age})
}

// readToken reads egret's own token anew, since the kubelet replaces it.
func readToken(file string) (secret.Secret, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return secret.Secret{}, fmt.Errorf("identify.kubernetesToken.tokenFile: %w", err)
	}
	return secret.New(strings.TrimSpace(string(b))), nil
}
