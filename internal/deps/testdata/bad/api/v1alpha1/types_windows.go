// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build windows

// Package api is seen on every platform.
package api

import _ "gopkg.in/yaml.v3"
