// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package spire holds egret's knowledge of local callers to a real SPIRE server and
// agent: `go test -tags integration ./integration/spire`, as root. The first run builds
// them (build.sh), which takes about 15 CPU minutes.
package spire
