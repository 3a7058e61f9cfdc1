// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/internal/ops"
)

// admin asks a running egret how it is.
func (e *examination) admin(ctx context.Context) {
	const check = "admin socket"
	socket := e.Config.Admin.Socket
	if socket == "" {
		e.bad(Warn, check, "set admin.socket for egret reload and egret why --live", "none")
		return
	}
	info, err := os.Lstat(socket)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.noSocket(check, socket)
		return
	case err != nil:
		e.bad(Fail, check, "let egret's user reach "+filepath.Dir(socket), err)
		return
	case info.Mode().Type() != fs.ModeSocket:
		e.bad(Fail, check, "remove it, or name another path in admin.socket", socket+" is not a socket")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, e.Wait)
	defer cancel()
	err = ops.Do(ctx, ops.Dial(socket), ops.Call{Method: http.MethodGet, Path: "/v1/status"})
	if err != nil {
		e.live = !refused(ctx, socket)
		e.bad(Warn, check, "run egret, or ask as its user, as root or as one of admin.uids", err)
		return
	}
	e.live = true
	e.ok(check, "an egret answers at %s", socket)
}

// refused reports whether nobody listens at a socket any more, as after a crash.
func refused(ctx context.Context, socket string) bool {
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err == nil {
		_ = c.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// noSocket is as it should be before a start, if one can be made.
func (e *examination) noSocket(check, socket string) {
	dir := filepath.Dir(socket)
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		e.bad(Fail, check, "make the folder for egret's user (mkdir -m 0700, or RuntimeDirectory= of systemd)", err)
	case info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0:
		e.bad(Warn, check, "chmod go-w "+dir, dir+" lets other users put a socket of theirs in the place of egret's")
	default:
		e.bad(Warn, check, "run egret", "no egret runs here: there is no "+socket)
	}
}

// metrics asks a running egret whether it is ready.
func (e *examination) metrics(ctx context.Context) {
	const check = "metrics"
	address := e.Config.Metrics.Address
	_, port, _ := net.SplitHostPort(address)
	switch {
	case address == "":
		e.bad(Warn, check, "set metrics.address for /readyz and /metrics", "none")
		return
	case port == "0":
		e.ok(check, "the system chooses the port at the start")
		return
	}
	err := free(address)
	switch {
	case err == nil && e.live:
		e.bad(Fail, check, "restart egret with these settings", "the running egret does not serve "+address)
	case err == nil:
		e.ok(check, "%s is free", address)
	default:
		e.ready(ctx, check, address, err)
	}
}

func (e *examination) ready(ctx context.Context, check, address string, taken error) {
	ctx, cancel := context.WithTimeout(ctx, e.Wait)
	defer cancel()
	status, text, err := page(ctx, "http://"+address+"/readyz")
	switch {
	case err != nil || status != http.StatusOK && status != http.StatusServiceUnavailable:
		e.bad(Fail, check, "free the address or set another metrics.address", taken)
	case status != http.StatusOK:
		e.live = true
		e.bad(Fail, check, "see the running egret's log", "the egret at "+address+" is not ready: "+failing(text))
	default:
		e.live = true
		e.ok(check, "the egret at %s is ready", address)
	}
}

// failing are the checks of /readyz that fail.
func failing(text string) string {
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		if strings.Contains(line, "failed") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return strings.Join(out, "; ")
}

const maxPage = 64 << 10

func page(ctx context.Context, url string) (int, string, error) {
	tr := &http.Transport{DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxPage))
	return resp.StatusCode, string(b), err
}

// free reports why an address cannot be listened on.
func free(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return l.Close()
}

// listener looks at an entrance: its address, and the certificate that it shows.
func (e *examination) listener(l config.Listener) {
	check := "listener " + l.Name
	if l.TLS != nil {
		pair, err := tls.LoadX509KeyPair(l.TLS.Cert, l.TLS.Key)
		if err != nil {
			e.bad(Fail, check, "name a certificate and its key in tls.cert and tls.key", err)
			return
		}
		e.life(check+" certificate", fmt.Sprint(pair.Leaf.DNSNames, pair.Leaf.IPAddresses), span{pair.Leaf.NotBefore, pair.Leaf.NotAfter}, "renew "+l.TLS.Cert)
	}
	if e.live {
		e.ok(check, "%s is for the egret that runs", l.Address)
		return
	}
	e.address(check, l.Address)
}

func (e *examination) address(check, address string) {
	if strings.HasPrefix(address, "systemd:") {
		e.ok(check, "systemd opens it")
		return
	}
	if path, ok := strings.CutPrefix(address, config.SteerPrefix); ok {
		e.steer(check, path)
		return
	}
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			e.bad(Fail, check, "make the folder for egret's user", err)
			return
		}
		e.ok(check, "%s can be made", path)
		return
	}
	if err := free(address); err != nil {
		e.bad(Fail, check, "free the address or set another; if it is egret that runs there, set admin.socket, by which doctor sees it", err)
		return
	}
	e.ok(check, "%s is free", address)
}

// steer looks whether egret steer is there. Without it pods are not served, and egret
// starts all the same.
func (e *examination) steer(check, path string) {
	c, err := net.DialTimeout("unixpacket", path, e.Wait) //nolint:forbidigo // a unix socket
	if err != nil {
		e.bad(Warn, check, "start egret steer (as root), with --socket "+path+" and --user of egret's; until then no pod is served", err)
		return
	}
	_ = c.Close()
	e.ok(check, "egret steer is there on %s; it enters namespaces, and holds no credential", path)
}
