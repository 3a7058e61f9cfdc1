// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/egret-proxy/egret/certs"
	"github.com/egret-proxy/egret/config"
)

// refreshFiles reads again what is not policy but lives in files: intermediates and the
// listeners' certificates. Each that cannot be read stays as it was.
func (r *reloader) refreshFiles() error {
	var faults []error
	if fi, ok := r.n.issuer.(*certs.FileIssuer); ok {
		before := fi.Authorities()
		if err := fi.Reload(); err != nil {
			faults = append(faults, fmt.Errorf("certs.issuer.file: %w", err))
		} else if !slices.EqualFunc(before, fi.Authorities(), (*x509.Certificate).Equal) {
			r.n.authority.Purge()
			r.n.log.Info("the intermediates of the CA are new", "first ends", fi.Expires())
		}
	}
	for _, e := range r.n.entrances {
		faults = append(faults, e.loadCert())
	}
	return errors.Join(faults...)
}

// ownFiles is the state of the files that refreshFiles and settingsChanged read.
func (r *reloader) ownFiles() config.Snapshot {
	var list []string
	if r.n.opt.File != "" {
		list = append(list, r.n.opt.File)
	}
	for _, f := range r.n.cfg.Certs.Issuer.File {
		list = append(list, f.Chain, f.Key)
	}
	for _, l := range r.n.cfg.Listeners {
		if l.TLS != nil {
			list = append(list, l.TLS.Cert, l.TLS.Key)
		}
	}
	return config.TakeSnapshot(list...)
}

// settingsChanged tells that egret.yaml is not what runs: its settings need a restart.
func (r *reloader) settingsChanged() {
	if r.n.opt.File == "" {
		return
	}
	now, faults := config.LoadNode(r.n.opt.File, r.n.opt.Env)
	switch {
	case len(faults) > 0:
		r.n.log.Warn("the settings have faults; what runs is what was read at start", "file", r.n.opt.File, "first", faults[0].Error())
	case !reflect.DeepEqual(now, r.n.cfg):
		r.n.log.Warn("the settings have changed; restart egret to put them in force (policy is reloaded without)", "file", r.n.opt.File)
	}
}

// watchAgain is how long after a refusal the system is asked for a watch again.
const watchAgain = 30 * time.Second

// watch reloads when a file changes, until ctx ends. Each load may have looked at other
// files than the one before, also one that failed: what it wanted may come.
func (r *reloader) watch(ctx context.Context) {
	for ctx.Err() == nil {
		last := r.now()
		wctx, cancel := context.WithCancel(ctx)
		var helper sync.WaitGroup
		helper.Go(func() {
			select {
			case <-last.superseded:
				cancel()
			case <-wctx.Done():
			}
		})
		err := config.Watch(wctx, last.looked, func() { _, _ = r.n.Reload() })
		cancel()
		helper.Wait()
		if err != nil {
			r.n.log.Error("files are not watched; reload with SIGHUP or egret reload", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(watchAgain):
			}
		}
	}
}
