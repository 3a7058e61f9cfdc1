#!/bin/sh
# SPDX-FileCopyrightText: The egret authors
# SPDX-License-Identifier: Apache-2.0

# Installs the peers that egret is measured against, from Debian's packages. None of them
# is started: bench starts its own, on loopback, and ends them.
set -eu

packages="nginx-light haproxy squid-openssl mitmproxy"

command -v apt-get >/dev/null || { echo "bench/install.sh: needs Debian: there is no apt-get" >&2; exit 1; }
missing=
for package in $packages; do
	dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing="$missing $package"
done
if [ -z "$missing" ]; then
	echo "all are there: $packages"
	exit 0
fi
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 # no package starts a server
apt-get update
# shellcheck disable=SC2086 # a list
apt-get install -y --no-install-recommends $missing
