#!/usr/bin/env bash
#
# matrix.sh OUT [DEBIAN...]: builds the module and runs its unit tests and t/
# inside Debian 12, 13 and sid (or those named: bookworm, trixie, sid), each
# in a folder made by debootstrap from Debian's packages: its own nginx, Redis
# or Valkey, libraries and compiler.  Then deb-test.sh builds the package there
# and installs it in a bare one.  Ends with a line per Debian and "N passed,
# N failed".
#
# MATRIX_TESTS  what runs there: "test-unit test-t" (make's targets)
# MATRIX_DEB    0: no package
# T             files of t/, as for make test
# MIRROR        where Debian's packages come from (util/chroot.sh)
# OUT/DEBIAN stays, so that a second run is quick; OUT/DEBIAN.log has it all.

set -u

here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/util/chroot.sh"

tests=${MATRIX_TESTS:-test-unit test-t}

mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- bookworm trixie sid

own_namespaces "$0" "$out" "$@"


# In Debian 13 Valkey stands in for Redis, so that both are tried.

valkey() {
    local root=$1 program

    fetch "$root" valkey-server valkey-tools || return 1
    for program in server cli sentinel benchmark; do
        ln -sf /usr/bin/valkey-$program \
            "$root/usr/local/bin/redis-$program"
    done
}


one() {
    local debian=$1 root=$out/$1 log=$out/$1.log

    : >"$root.versions"
    workshop "$out" "$debian" >"$log" 2>&1 || return 1
    [ "$debian" != trixie ] || valkey "$root" >>"$log" 2>&1 || return 1

    # what was built stays with its folder; sources that came do not
    copy_tree "$root/src/ngx-llm" >>"$log" 2>&1

    inside "$root" ${T:+T="$T"} ${TEST_JOBS:+TEST_JOBS="$TEST_JOBS"} \
        make -C /src/ngx-llm BUILD=/src/build -k $tests >>"$log" 2>&1

    inside "$root" sh -c '
        nginx -v 2>&1 | sed "s/.*nginx\//nginx /"
        dpkg-query -W -f "hiredis \${Version}\n" libhiredis-dev
        redis-server --version \
            | sed -n "s/\(Redis\|Valkey\).* v=\([^ ]*\).*/\1 \2/p"
        gcc --version | sed -n "1s/.* /gcc /p"' >"$root.versions" 2>/dev/null
    leave "$root"
}


command -v debootstrap >/dev/null || "$here/util/need.sh" matrix || exit 1

passed=0 failed=0

for debian in "$@"; do
    start=$SECONDS
    state=ok
    one "$debian" || state="could not be set up"

    # by a process of its own, as it mounts and numbers for itself
    [ "${MATRIX_DEB:-1}" = 0 ] || env -u NGX_LLM_CHROOT \
        "$here/util/deb-test.sh" "$out" "$debian" >>"$out/$debian.log" 2>&1

    # the totals of each target
    read -r p f < <(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' \
        "$out/$debian.log" | awk '{ p += $1; f += $2 } END { print p+0, f+0 }')

    if [ "$p" -eq 0 ] || grep -q '^make: \*\*\*' "$out/$debian.log"; then
        [ "$f" -gt 0 ] || f=1
        [ "$state" = ok ] && state="see $out/$debian.log"
    fi

    printf '%-10s %s passed, %s failed, %d s (%s)%s\n' "$debian" "$p" "$f" \
        $((SECONDS - start)) \
        "$(paste -sd, "$out/$debian.versions" 2>/dev/null | sed 's/,/, /g')" \
        "$([ "$state" = ok ] || echo ": $state")"

    passed=$((passed + p)) failed=$((failed + f))
done

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
