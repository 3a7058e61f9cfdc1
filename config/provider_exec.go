// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	api "github.com/egret-proxy/egret/api/v1alpha1"
	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/exec"
)

func (b *builder) exec(p *api.ExecProvider) (credential.Provider, error) {
	return orNil(exec.New(exec.Config{
		Command: p.Command, Env: p.Env, Values: p.Values, Timeout: p.Deadline(),
		LookupEnv: b.opt.LookupEnv,
	}))
}
