// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package proxy is the stem.
package proxy

import (
	_ "github.com/elazarl/goproxy"

	_ "github.com/egret-proxy/egret/identity"
	_ "github.com/egret-proxy/egret/internal/secret"
	_ "github.com/egret-proxy/egret/internal/sockopt"
)
