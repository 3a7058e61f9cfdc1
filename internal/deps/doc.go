// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package deps holds no code, only tests of the whole source tree: who may import
// whom, what every file and package must say about itself, and that nothing reaches
// around the seams that the design relies on.
package deps
