#!/usr/bin/env bash
#
# setup.sh DIR: a browser, and what drives and judges it, in the versions of
# package-lock.json.  Nothing is done again while that stays the same.

set -eu

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)

command -v chromium >/dev/null || "$here/../../util/need.sh" dashboard

state=$(cksum "$here/package.json" "$here/package-lock.json")
[ "$state" = "$(cat "$dir/node.state" 2>/dev/null)" ] && exit 0

rm -rf "$dir/node" "$dir/node.state"
echo "# setting up node" >&2

{
    "$here/../../util/need.sh" node
    mkdir -p "$dir/node"
    cp "$here/package.json" "$here/package-lock.json" "$dir/node/"
    cd "$dir/node" && npm ci --no-audit --no-fund --ignore-scripts
} >"$dir/node.log" 2>&1 || { tail -n 20 "$dir/node.log" >&2
                             exit 1; }

printf '%s\n' "$state" >"$dir/node.state"
