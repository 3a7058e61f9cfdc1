// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package vault holds the provider vault, and egret with it, to a real Vault: `go test
// -tags integration ./integration/vault`, as root. The first run builds Vault
// (integration/build/vault.sh); leases come from a real PostgreSQL (Debian's postgresql).
package vault
