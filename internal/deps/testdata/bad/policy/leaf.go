// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package policy is a leaf that knows a sibling.
package policy

import (
	_ "github.com/egret-proxy/egret/identity"
	_ "github.com/egret-proxy/egret/internal/secret"
)
