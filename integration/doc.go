// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package integration tests the built program with the clients that people really use:
// curl, git, gh, the HTTP libraries of Python, Node, Ruby, PHP, Java and Go, gRPC and
// WebSocket. Nothing about a client is changed but what egret exec sets, and nothing but
// loopback is reached: the SaaS are the twins of internal/saas.
//
// The tests have the build tag integration. They need root (a proxy that accepts its own
// user only is run for root's clients) and the clients; integration/run brings both.
package integration
