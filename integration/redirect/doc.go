// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package redirect holds egret to real packets: programs that know of no proxy in a network
// namespace whose connections `egret redirect` leads to egret, the SaaS in another, and a
// look at every packet in between. `go test -tags integration ./integration/redirect`, as
// root; integration/run installs what it needs.
package redirect
