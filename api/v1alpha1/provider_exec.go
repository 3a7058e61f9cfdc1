// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"strings"
	"time"

	"github.com/egret-proxy/egret/credential/exec"
)

// ExecProvider runs a program that prints a credential, for issuers that egret does not know. The program and every folder on the way to it must be owned by root or egret's user and writable by its owner alone.
type ExecProvider struct {
	// Command is the absolute path of the program and its arguments. There is no shell, and arguments are seen by everyone on the machine: no secret belongs there. Required.
	Command []string `json:"command"`
	// Env are names of variables of egret's own environment that the program gets. It gets no others but EGRET_SPIFFE_ID, the caller's SPIFFE ID. Default: none.
	Env []string `json:"env,omitempty"`
	// Values are names that the program prints in values besides token, for injections. Default: none.
	Values []string `json:"values,omitempty"`
	// Timeout after which the program and all that it has started is killed, 1s to 2m. Default: 10s.
	Timeout string `json:"timeout,omitempty"`
	// Shared is true where the program prints the same for every workload: then it is run once for all, without EGRET_SPIFFE_ID. Default: false.
	Shared bool `json:"shared,omitempty"`
}

func (p *ExecProvider) check(f *faults, path string) {
	f.wrong(path+".command", strings.Join(p.Command, " "), exec.CheckCommand(p.Command))
	for i, n := range p.Env {
		f.wrong(at(path+".env", i), n, exec.CheckVariable(n))
	}
	f.distinct(path+".env", p.Env)
	for i, v := range p.Values {
		f.wrong(at(path+".values", i), v, exec.CheckValue(v))
	}
	f.distinct(path+".values", p.Values)
	f.duration(path+".timeout", p.Timeout, span{time.Second, exec.MaxTimeout})
}

// Deadline is how long a run may take.
func (p *ExecProvider) Deadline() time.Duration {
	if d, err := time.ParseDuration(p.Timeout); err == nil {
		return d
	}
	return exec.DefaultTimeout
}

func (p *ExecProvider) traits() traits {
	return traits{shared: p.Shared, values: append([]string{"token"}, p.Values...)}
}
