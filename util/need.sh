#!/usr/bin/env bash
#
# need.sh PURPOSE...: installs the Debian packages a purpose needs, if any of
# them is missing.  Looks first, so that a second call costs nothing and needs
# neither root nor a network.

set -u

declare -A packages=(
    [build]="gcc libc6-dev make nginx nginx-dev libhiredis-dev
             libjansson-dev libssl-dev libzstd-dev libcurl4-openssl-dev"
    [run]="gcc libc6-dev make nginx redis-server curl ca-certificates"
    [test]="perl procps openssl libcmocka-dev libjansson-dev libhiredis-dev
            liblua5.1-0-dev redis-server nginx curl mandoc"
    [check]="cppcheck clang clang-tidy libclang-rt-dev valgrind dpkg-dev
             libpcre2-dev zlib1g-dev libssl-dev"
    [coverage]="gcc python3 dpkg-dev libpcre2-dev zlib1g-dev libssl-dev"
    [bench]="python3 valgrind strace redis-server util-linux procps openssl
             nghttp2-client"
    [peers-lua]="nginx libnginx-mod-http-lua lua-cjson"
    [peers-haproxy]="haproxy"
    [dashboard]="chromium fonts-dejavu-core"
    [promtool]="prometheus"
    [train]="nginx openssl python3 redis-server"
    [deb]="build-essential debhelper nginx-dev libhiredis-dev libjansson-dev
           libssl-dev libzstd-dev libcurl4-openssl-dev nginx openssl python3
           redis-server"
    [matrix]="debootstrap util-linux iproute2"
)

missing=()

for purpose in "$@"; do
    # these may have come another way than by their package
    if [ "$purpose" = node ]; then
        command -v npm >/dev/null 2>&1 || missing+=(npm)
        continue
    fi

    if [ "$purpose" = python ]; then
        python3 -c 'import ensurepip, venv' 2>/dev/null \
            || missing+=(python3-venv)
        continue
    fi

    if [ "$purpose" = promtool ] && command -v promtool >/dev/null 2>&1; then
        continue
    fi

    for package in ${packages[$purpose]?unknown purpose $purpose}; do
        status=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null)
        [ "$status" = "install ok installed" ] || missing+=("$package")
    done
done

[ ${#missing[@]} -eq 0 ] && exit 0

sudo=
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "missing packages: ${missing[*]}" >&2
        echo "neither root nor sudo: please install them" >&2
        exit 1
    fi
    sudo=sudo
fi

# Installing a server starts it, and the ports of nginx and Redis may be
# somebody else's: unless the machine has its own policy, none is started now.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
    $sudo chmod 755 "$policy"
    trap '$sudo rm -f "$policy"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
fi

echo "installing: ${missing[*]}" >&2

# lists may be missing or too old: refresh them only when they do not do
install() {
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y \
        --no-install-recommends -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
        "${missing[@]}"
}

install >/dev/null 2>&1 && exit 0

$sudo apt-get update -qq >&2 && install >/dev/null
