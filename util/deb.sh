#!/usr/bin/env bash
#
# deb.sh OUT: builds the Debian package by dpkg-buildpackage, from a copy of
# the sources in OUT/ngx-llm, and leaves it in OUT.  Its recipe is debian/.
# PROFILE=off: as DEB_BUILD_OPTIONS=nopgo

set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/util/chroot.sh"

mkdir -p "$1"
out=$(cd "$1" && pwd)
log=$out/build.log

version=$(sed -n 's/^#define NGX_HTTP_LLM_VERSION *"\(.*\)"/\1/p' \
          "$here/ngx_module/http/ngx_http_llm.h")
packaged=$(cd "$here" && dpkg-parsechangelog -S Version)

if [ "${packaged%-*}" != "$version" ]; then
    echo "debian/changelog has $packaged, ngx_http_llm.h has $version" >&2
    exit 1
fi

rm -f "$out"/*.deb "$out"/*.changes "$out"/*.buildinfo
copy_tree "$out/ngx-llm"

# flags of a make that called this are not meant for that one
unset MAKEFLAGS MFLAGS MAKELEVEL BUILD CC CFLAGS

if [ "${PROFILE:-}" = off ]; then
    export DEB_BUILD_OPTIONS="${DEB_BUILD_OPTIONS:-} nopgo"
fi

if ! (cd "$out/ngx-llm" && umask 022 && dpkg-buildpackage -us -uc -b) \
    >"$log" 2>&1
then
    tail -n 30 "$log" >&2
    exit 1
fi

find "$out" -maxdepth 1 -name '*.deb' ! -name '*-dbgsym_*' -printf 'built %p\n'
