#!/usr/bin/env bash
#
# setup.sh DIR: the Python packages of these tests, in the versions of
# requirements.txt.  Nothing is done again while these stay the same.

set -eu

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
state=$(cksum "$here/requirements.txt")

[ "$state" = "$(cat "$dir/state" 2>/dev/null)" ] && exit 0

"$here/../../util/need.sh" python
rm -rf "$dir/python" "$dir/state"
echo "# setting up the validators" >&2

{
    python3 -m venv "$dir/python"
    "$dir/python/bin/pip" install -q --disable-pip-version-check \
        -r "$here/requirements.txt"
} >"$dir/log" 2>&1 || { tail -n 20 "$dir/log" >&2; exit 1; }

printf '%s\n' "$state" >"$dir/state"
