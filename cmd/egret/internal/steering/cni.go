// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package steering

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/egret-proxy/egret/internal/ops"
)

// Plugin is the CNI plugin (CNI 1.0 and 1.1, chained: it comes last and changes no
// network). Runtimes call it once when a pod's network has been made, before a container
// starts, and once when it is taken down.
type Plugin struct {
	Env    func(string) string
	In     io.Reader
	Out    io.Writer
	Called context.Context //nolint:containedctx // of the one call
}

// netConf is the plugin's part of a network configuration.
type netConf struct {
	CNIVersion string          `json:"cniVersion"`
	Name       string          `json:"name"`
	Control    string          `json:"control"` // of egret steer; default /run/egret-steer/control.sock
	PrevResult json.RawMessage `json:"prevResult"`
}

// DefaultControl is where egret steer is asked.
const DefaultControl = "/run/egret-steer/control.sock"

// maxConf bounds the configuration that the runtime sends.
const maxConf = 1 << 20

// Error codes of the CNI specification, and ours, from 100 on.
const (
	cniBadEnv     = 4
	cniBadDecode  = 6
	cniBadConfig  = 7
	cniNotSteered = 100
	cniGone       = 101
)

type cniError struct {
	CNIVersion string `json:"cniVersion"`
	Code       uint   `json:"code"`
	Msg        string `json:"msg"`
	Details    string `json:"details,omitempty"`
}

// Run answers one call and returns the exit code. An ADD that fails keeps the pod from
// starting: one that nobody captures must not run.
func (p *Plugin) Run() int {
	conf, fault := p.call()
	if fault == nil {
		return 0
	}
	fault.CNIVersion = conf.CNIVersion
	_ = json.NewEncoder(p.Out).Encode(fault) //nolint:errchkjson // there is nobody else to tell
	return 1
}

func (p *Plugin) call() (netConf, *cniError) {
	var conf netConf
	command := p.Env("CNI_COMMAND")
	data, err := io.ReadAll(io.LimitReader(p.In, maxConf))
	if err == nil {
		err = json.Unmarshal(data, &conf)
	}
	if err != nil {
		return conf, &cniError{Code: cniBadDecode, Msg: "the configuration is not JSON", Details: err.Error()}
	}
	if conf.Control == "" {
		conf.Control = DefaultControl
	}
	switch command {
	case "VERSION":
		return conf, p.write(map[string]any{"cniVersion": conf.CNIVersion, "supportedVersions": []string{"0.4.0", "1.0.0", "1.1.0"}})
	case "ADD":
		return conf, p.add(conf)
	case "DEL":
		return conf, p.del(conf)
	case "CHECK", "STATUS", "GC":
		return conf, p.check(conf, command)
	}
	return conf, &cniError{Code: cniBadEnv, Msg: fmt.Sprintf("CNI_COMMAND %q is not one of ADD, DEL, CHECK, STATUS, GC, VERSION", command)}
}

func (p *Plugin) write(v any) *cniError {
	if err := json.NewEncoder(p.Out).Encode(v); err != nil {
		return &cniError{Code: cniBadEnv, Msg: "the result cannot be written", Details: err.Error()}
	}
	return nil
}

func (p *Plugin) add(conf netConf) *cniError {
	if len(conf.PrevResult) == 0 {
		return &cniError{Code: cniBadConfig, Msg: "egret must be chained behind the plugin that makes the network", Details: `put it last in "plugins" of a .conflist`}
	}
	more, err := args(p.Env("CNI_ARGS"))
	if err != nil {
		return &cniError{Code: cniBadEnv, Msg: err.Error()}
	}
	ask := AddRequest{
		Key: p.Env("CNI_CONTAINERID"), NetNS: p.Env("CNI_NETNS"),
		UID: more["K8S_POD_UID"], Namespace: more["K8S_POD_NAMESPACE"], Name: more["K8S_POD_NAME"],
	}
	if ask.Key == "" || ask.NetNS == "" {
		return &cniError{Code: cniBadEnv, Msg: "CNI_CONTAINERID and CNI_NETNS must be set"}
	}
	if err := p.do(conf, http.MethodPost, "/v1/pods", ask, nil); err != nil {
		return &cniError{Code: cniNotSteered, Msg: "egret does not capture the pod, so it must not start", Details: err.Error()}
	}
	if _, err := p.Out.Write(append(conf.PrevResult, '\n')); err != nil {
		return &cniError{Code: cniBadEnv, Msg: "the result cannot be written", Details: err.Error()}
	}
	return nil
}

// del never fails for a pod that is not there: runtimes call it more than once.
func (p *Plugin) del(conf netConf) *cniError {
	key := p.Env("CNI_CONTAINERID")
	if key == "" {
		return &cniError{Code: cniBadEnv, Msg: "CNI_CONTAINERID must be set"}
	}
	if err := p.do(conf, http.MethodDelete, "/v1/pods/"+url.PathEscape(key), nil, nil); err != nil {
		return &cniError{Code: cniNotSteered, Msg: "egret steer was not told that the pod ends; it is asked again", Details: err.Error()}
	}
	return nil
}

func (p *Plugin) check(conf netConf, command string) *cniError {
	var list []Pod
	if err := p.do(conf, http.MethodGet, "/v1/pods", nil, &list); err != nil {
		return &cniError{Code: 50, Msg: "egret steer cannot be asked", Details: err.Error()} // 50: of STATUS, not available
	}
	if command != "CHECK" {
		return nil
	}
	key := p.Env("CNI_CONTAINERID")
	for _, x := range list {
		if x.Key == key && x.State == "served" {
			return nil
		}
	}
	return &cniError{Code: cniGone, Msg: fmt.Sprintf("pod %q is not served by egret", key)}
}

// callTime is more than egret steer waits for egret run.
const callTime = 20 * time.Second

func (p *Plugin) do(conf netConf, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(p.Called, callTime)
	defer cancel()
	err := ops.Do(ctx, ops.Dial(conf.Control), ops.Call{Method: method, Path: path, In: in, Out: out})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer on %s in %s", conf.Control, callTime)
	}
	return err
}
