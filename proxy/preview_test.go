// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"strings"
	"testing"

	"github.com/egret-proxy/egret/policy"
)

// TestPreviewAgreesWithTheWay: what is foretold is what the stages of a request do.
func TestPreviewAgreesWithTheWay(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]policy.Reason{"GET": "", "get": "", "TRACE": reasonMethod, "track": reasonMethod, "CONNECT": reasonMethod} {
		if got, why := PreviewMethod(method); got != want || (why == "") != (want == "") {
			t.Errorf("%s: %q, %q", method, got, why)
		}
	}
	for query, want := range map[string]policy.Reason{"": "", "page=2": "", "a=b&Access_Token=hunter2": reasonQueryCredential, "x;token=hunter2": reasonQueryCredential,
		"_Method=DELETE": reasonQueryOverride, "a=1&%24httpMethod=hunter2": reasonQueryOverride, "sudo=hunter2": reasonQuerySelector} {
		got, why := PreviewQuery(query, nil)
		if got != want || (why == "") != (want == "") || strings.Contains(why, "hunter2") {
			t.Errorf("%s: %q, %q", query, got, why)
		}
	}
}
