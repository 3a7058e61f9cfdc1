// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/certs"
	"github.com/egret-proxy/egret/cmd/egret/internal/shim"
	"github.com/egret-proxy/egret/internal/launch"
)

// execNode leads a child to a node's TLS listener with the SVID of this process.
type execNode struct {
	svid        bool
	id          string
	listenerCA  string
	workloadAPI string
	socket      string
	stderr      io.Writer
}

func (e *execNode) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&e.svid, "svid", false, "show our X.509-SVID to the listener of --proxy, which is https://, on behalf of a program that cannot")
	f.StringVar(&e.id, "svid-id", "", "SPIFFE ID of the SVID to show, where the Workload API gives several")
	f.StringVar(&e.listenerCA, "listener-ca", "", "PEM file that the listener's own certificate is verified by, with --svid (default: the system's roots)")
	f.StringVar(&e.workloadAPI, "workload-api", "", "unix:///path of the Workload API, with --svid (default: $SPIFFE_ENDPOINT_SOCKET)")
	f.StringVar(&e.socket, "socket", "", "path of the Workload API's socket: short for --svid --workload-api unix://PATH")
}

// check refuses flags that would be ignored, and a proxy that no SVID can be shown to.
func (e *execNode) check(proxy string) error {
	if err := e.fromSocket(); err != nil {
		return err
	}
	switch {
	case !e.svid && (e.id != "" || e.listenerCA != "" || e.workloadAPI != ""):
		return usagef("--svid-id, --listener-ca and --workload-api are for --svid, or --socket")
	case !e.svid:
		return nil
	case proxy == "":
		return usagef("--svid needs the node's listener and its CA: --proxy https://host:port --ca ca.pem")
	}
	u, err := launch.ParseProxy(proxy)
	if err != nil {
		return usageError{err}
	}
	if u.Scheme != "https" {
		return usagef("--proxy %q: must be https:// with --svid: an SVID is shown in TLS", proxy)
	}
	return nil
}

// fromSocket takes --socket as what it is short for.
func (e *execNode) fromSocket() error {
	path, _ := strings.CutPrefix(e.socket, "unix://")
	switch {
	case e.socket == "":
		return nil
	case e.workloadAPI != "":
		return usagef("--socket and --workload-api both name the Workload API: give one of them")
	case !filepath.IsAbs(path):
		return usagef("--socket %q: must be an absolute path, such as /run/spire/agent.sock", e.socket)
	}
	e.svid, e.workloadAPI = true, "unix://"+path
	return nil
}

// start is a startProxy: a shim that leads to the node's listener at proxy.
func (e *execNode) start(ctx context.Context, proxy string) (string, func(), error) {
	o := shim.Options{WorkloadAPI: e.workloadAPI, Note: func(text string) { _, _ = fmt.Fprintln(e.stderr, "egret exec: "+text) }}
	u, err := url.Parse(proxy)
	if err != nil { // checked already
		return "", nil, err
	}
	o.Node = u.Host
	if e.id != "" {
		if o.ID, err = spiffeid.FromString(e.id); err != nil {
			return "", nil, usagef("--svid-id %q: must be a SPIFFE ID: %w", e.id, err)
		}
	}
	if e.listenerCA != "" {
		list, err := certs.ReadCertificates(e.listenerCA)
		if err != nil {
			return "", nil, fmt.Errorf("--listener-ca: %w", err)
		}
		o.Roots = x509.NewCertPool()
		for _, c := range list {
			o.Roots.AddCert(c)
		}
	}
	if err := forbidAttach(); err != nil { // the SVID's key is in this process
		return "", nil, err
	}
	wait, cancel := context.WithTimeout(ctx, execPatience)
	defer cancel()
	defer slow(e.stderr, "waiting up to %s for the SPIFFE Workload API", execPatience)()
	s, err := shim.Start(wait, o)
	if err != nil {
		return "", nil, err
	}
	return s.URL(), s.Close, nil
}
