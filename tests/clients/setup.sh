#!/usr/bin/env bash
#
# setup.sh DIR: the clients of the tests, unmodified, in the versions of
# requirements.txt and package-lock.json.  Nothing is done again while these
# stay the same.

set -eu

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)

once() {
    local name=$1 state
    shift

    state=$(cksum "$@")
    [ "$state" = "$(cat "$dir/$name.state" 2>/dev/null)" ] && return

    rm -rf "$dir/$name" "$dir/$name.state"
    echo "# setting up $name" >&2
    "$name" >"$dir/$name.log" 2>&1 || { tail -n 20 "$dir/$name.log" >&2
                                        exit 1; }
    printf '%s\n' "$state" >"$dir/$name.state"
}

python() {
    "$here/../../util/need.sh" python
    python3 -m venv "$dir/python"
    "$dir/python/bin/pip" install -q --disable-pip-version-check \
        -r "$here/requirements.txt"
}

# the SDK wants a newer node than Debian has: it comes as a package too
node() {
    "$here/../../util/need.sh" node
    mkdir -p "$dir/node"
    cp "$here/package.json" "$here/package-lock.json" "$dir/node/"
    cd "$dir/node" && npm ci --no-audit --no-fund --ignore-scripts
}

once python "$here/requirements.txt"
once node "$here/package.json" "$here/package-lock.json"
