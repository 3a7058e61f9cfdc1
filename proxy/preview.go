// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"

	"github.com/egret-proxy/egret/policy"
)

// PreviewMethod returns why the proxy forwards no request with this method, whatever
// policy says, and a sentence about it; "" where nothing is against it.
func PreviewMethod(method string) (policy.Reason, string) {
	if !neverForwarded(method) {
		return "", ""
	}
	return reasonMethod, info(reasonMethod).Title
}

// PreviewQuery returns why the proxy refuses a request that the rule allows because of its
// raw query, and a sentence about it that holds no value; "" where nothing is against it.
func PreviewQuery(raw string, rule *policy.Rule) (policy.Reason, string) {
	reason, name := queryProblem(raw, rule)
	if reason == "" {
		return "", ""
	}
	i := info(reason)
	return i.Reason, fmt.Sprintf("%s: parameter %q; %s", i.Title, name, i.Hint)
}
