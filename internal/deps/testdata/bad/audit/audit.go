// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// just some words
package audit

import _ "net/http/pprof"
