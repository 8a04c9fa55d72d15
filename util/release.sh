#!/usr/bin/env bash
#
# release.sh OUT [TREE]: builds OUT/ngx_http_llm_module.so as it is installed:
# optimised across files, and by a profile: a first build has counters of what
# is run, bench/train puts load through it (of BUILD/mock and BUILD/load), and
# the second is optimised by the counts.  A request then needs less of the
# processor's cache for instructions: about 4 % less CPU time.
#
# PROFILE=off  without the profile
# NGINX        who runs it (default: the installed one)

set -eu

# nginx is there, which is not in everybody's PATH
export PATH=$PATH:/usr/sbin

here=$(cd "$(dirname "$0")/.." && pwd)
cc=${CC:-cc}
nginx=$(command -v "${NGINX:-nginx}" || :)
profile=${PROFILE:-on}

case $profile in
    on|off) ;;
    *) echo "PROFILE=$profile: on or off" >&2
       exit 1 ;;
esac

# its counts are of another kind
if [ "$profile" = on ] && $cc --version | grep -q clang; then
    echo "no profile: $cc is clang" >&2
    profile=off
fi

mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
tree=$(cd "${1:-/usr/share/nginx/src}" && pwd)

# what the module and the counts depend on; any change has all made anew
state=$({ echo "$out" "$tree" "$profile" "$cc" "${CFLAGS:-}" "$nginx"
          $cc --version
          [ -z "$nginx" ] || "$nginx" -V
          cd "$here"
          find ngx_module config tests/mock tests/tools \
              bench/train bench/*.py bench/plain.conf \
              util/release.sh util/build-module.sh util/profile-flags.sh \
              "$tree/src" "$tree/auto" "$tree/conf_flags" \
              -type f ! -name '*.pyc' -print0 \
              | LC_ALL=C sort -z | xargs -0 cksum; } 2>&1 | cksum)

if [ -e "$out/ngx_http_llm_module.so" ] \
    && [ "$state" = "$(cat "$out/state" 2>/dev/null)" ]
then
    exit 0
fi

export LTO=1
rm -rf "$out/state" "$out/profile"


# The module may be for another nginx than the one that is here.

loads() {
    printf 'load_module %s;\nevents { }\n' "$1" >"$out/try.conf"
    "$nginx" -t -q -e /dev/null -g 'pid /dev/null;' -c "$out/try.conf"
}


counted() {
    COUNTS=make "$here/util/build-module.sh" "$out" "$tree" || exit 1

    if ! loads "$out/counting.so"; then
        echo "no profile: ${nginx:-nginx} does not load this module" >&2
        return 1
    fi

    if ! NGINX=$nginx "$here/bench/train" "$out/counting.so" \
        || ! "$here/util/profile-flags.sh" check "$out/profile"
    then
        echo "no profile could be made; PROFILE=off builds without" >&2
        exit 1
    fi
}


counts=
if [ "$profile" = on ] && counted; then
    counts=use
fi

COUNTS=$counts "$here/util/build-module.sh" "$out" "$tree"
printf '%s\n' "$state" >"$out/state"
