#!/usr/bin/env bash
#
# release.sh OUT [TREE]: builds OUT/ngx_http_llm_module.so as it is installed:
# optimised across files, and by a profile: a first build counts what of it is
# run under bench/train, the second lies in memory accordingly, so that a
# request needs less of the processor's cache for instructions (5 % less CPU
# time).  The load is that of BUILD/mock and BUILD/load.
#
# PROFILE=off  without the profile
# NGINX        who runs it (default: the installed one)

set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
out=$1

export LTO=1

if [ "${PROFILE:-on}" = off ]; then
    rm -f "$out/state"
    PROFILE= exec "$here/util/build-module.sh" "$@"
fi

mkdir -p "$out"
out=$(cd "$out" && pwd)
shift

# what the counts depend on; any change has them counted anew
state=$({ echo "$out" "$@" "${CC:-cc}" "${CFLAGS:-}"
          "${CC:-cc}" --version
          "${NGINX:-nginx}" -V
          cd "$here"
          find ngx_module config bench/train bench/*.py bench/plain.conf \
              util/release.sh util/build-module.sh util/profile-flags.sh \
              -type f ! -name '*.pyc' -print0 \
              | LC_ALL=C sort -z | xargs -0 cksum; } 2>&1)

if [ -e "$out/ngx_http_llm_module.so" ] \
    && [ "$state" = "$(cat "$out/state" 2>/dev/null)" ]
then
    exit 0
fi

rm -rf "$out/state" "$out/profile"
PROFILE=count "$here/util/build-module.sh" "$out" "$@"

# nginx's configure tried what it built
find "$out/profile" -name '*autotest*' -delete 2>/dev/null || :

# it may be for another nginx than the one that is here
printf 'load_module %s/counting.so;\nevents { }\n' "$out" >"$out/try.conf"

if ! "${NGINX:-nginx}" -t -q -e /dev/null -g 'pid /dev/null;' \
     -c "$out/try.conf" >/dev/null 2>&1
then
    echo "no profile: ${NGINX:-nginx} does not load a module for this tree" >&2
    PROFILE= exec "$here/util/build-module.sh" "$out" "$@"
fi

"$here/bench/train" "$out/counting.so"
PROFILE=use "$here/util/build-module.sh" "$out" "$@"

printf '%s\n' "$state" >"$out/state"
