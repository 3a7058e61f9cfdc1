// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package identity is a leaf that reaches a sibling by way of internal.
package identity

import _ "github.com/egret-proxy/egret/internal/launch"
