// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package proxy is the stem of egret: it carries a connection and its requests
// from the client to the SaaS. Three functions do it, each readable top to bottom:
//
//	admit      (admit.go)    once per connection: who calls, and may it come in at all
//	ServeHTTP  (exchange.go) once per request: authority, decision, credential, forward, record
//	RoundTrip  (upstream.go) the wire: the credential is applied last, over verified TLS
//
// The leaves (identity, policy, credential, certs, audit) are asked through the
// interfaces in Deps and never call back. What is refused, and how the application
// and the operator are told, is in refusal.go alone.
package proxy
