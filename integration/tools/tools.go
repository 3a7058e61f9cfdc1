// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package tools pins clients that are built from Go modules for the integration tests.
// It has a module of its own, so that egret's go.mod lists only what egret is made of.
package tools
