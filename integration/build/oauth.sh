#!/usr/bin/env bash
# SPDX-FileCopyrightText: The egret authors
# SPDX-License-Identifier: Apache-2.0

# Installs the authorization server of integration/oauth (npm oidc-provider), once for
# each version of its lock file, and prints the folder that it is in.
set -euo pipefail
cd "$(dirname "$0")/../.."

from=integration/oauth/node
stamp=$(sha256sum $from/package-lock.json | cut -c1-16)-$(node --version)
to=$PWD/.cache/oauth/$stamp
mkdir -p .cache/oauth
exec 9>.cache/oauth/lock
flock 9
if [ ! -e "$to/done" ]; then
	mkdir -p "$to"
	cp $from/package.json $from/package-lock.json "$to/"
	timeout 300 npm ci --prefix "$to" --ignore-scripts --no-audit --no-fund >"$to/log.txt" 2>&1 </dev/null || {
		tail -n 40 "$to/log.txt" >&2
		exit 1
	}
	touch "$to/done"
fi
echo "$to"
