// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package saas holds twins of real SaaS APIs: HTTP handlers that speak the documented
// wire format of Slack, Qase and an OAuth 2 authorization server, and refuse what the
// real ones refuse. egret's demonstration and its integration tests send their traffic
// to them, over real TLS with a private CA, so that no account and no network is
// needed. Where the real API does not document a behaviour, the twin chooses the
// stricter one.
//
// The twins never keep a token that they were shown: what they record about callers is
// the fingerprint of package secret, which is what egret writes in its records too.
// Every type is safe for concurrent use.
package saas
