// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package oauth holds the provider oauth2, through egret itself, to a real authorization
// server, npm's oidc-provider, which verifies SVIDs of the embedded issuer and of a real
// SPIRE: `go test -tags integration ./integration/oauth`. The first run installs it
// (integration/build/oauth.sh) and, as root, builds SPIRE (integration/spire/build.sh).
package oauth
