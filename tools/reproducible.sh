#!/bin/sh
# SPDX-FileCopyrightText: The egret authors
# SPDX-License-Identifier: Apache-2.0

# Builds the commit that is checked out twice, in two folders with names of different
# length and with two build caches, and compares the bytes. egret must not grow beyond
# 25 MiB unseen. Usage: reproducible.sh [GO]
set -eu

go=${1:-go}
commit=$(git rev-parse HEAD)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

for copy in a another-much-longer-name; do
	mkdir "$dir/$copy"
	git archive "$commit" | tar -x -C "$dir/$copy"
	(
		cd "$dir/$copy"
		GOCACHE="$dir/cache-$copy" make -s build GO="$go" VERSION="$commit" COMMIT="$commit"
	)
done

for program in egret egret-dashboard; do
	if ! cmp "$dir/a/bin/$program" "$dir/another-much-longer-name/bin/$program"; then
		echo "reproducible: $program differs between two builds of $commit" >&2
		exit 1
	fi
	size=$(wc -c <"$dir/a/bin/$program")
	if [ "$size" -gt $((25 << 20)) ]; then
		echo "reproducible: $program has $size bytes, more than 25 MiB: see what is new with go version -m" >&2
		exit 1
	fi
	echo "reproducible: $program is the same $size bytes both times"
done
