// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Command egret is all of it.
package main

import (
	_ "github.com/egret-proxy/egret/cmd/egret/internal/node"
	_ "github.com/egret-proxy/egret/config"
)
