// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package nobody

import _ "github.com/egret-proxy/egret/policy"
