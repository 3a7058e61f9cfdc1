// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux && race

package spire

// raced: the tests run under the race detector, and so does the egret that they start.
const raced = true
