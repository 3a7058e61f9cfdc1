// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build race

package proxy

// raceEnabled makes bulk tests smaller: the race detector slows bytes down tenfold.
const raceEnabled = true
