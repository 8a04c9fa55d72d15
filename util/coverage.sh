#!/usr/bin/env bash
#
# coverage.sh OUT PART...: which lines and branches the tests reach.  PART is
# core (the core by the unit tests alone) or module (what is not the core by
# t/, in a static nginx).  Prints a table per file; OUT/PART.open has the lines
# that were not reached.  Both add to what an earlier run reached unless the
# code has changed meanwhile.  NGINX_SRC, T and TEST_JOBS as elsewhere.

set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD:-$here/build}

mkdir -p "$1"
out=$(cd "$1" && pwd)
shift

flags="-O0 -g --coverage"
cd "$here"


# The core is compiled once, the tests are linked with it.  All of them write
# the same counts, which gcc's library adds up.
core() {
    local state

    state=$(cksum ngx_module/core/*.[ch])

    if [ "$state" != "$(cat "$out/core.state" 2>/dev/null)" ]; then
        rm -rf "$out/core"
        mkdir -p "$out/core"

        # shellcheck disable=SC2086
        printf '%s\n' ngx_module/core/*.c | xargs -P "$(nproc)" -I{} bash -c '
            cc -std=gnu11 '"$flags"' -Ingx_module -c {} \
                -o "$0/$(basename {} .c).o"' "$out/core"
        ar rcs "$out/core/libcore.a" "$out"/core/*.o

        printf '%s\n' "$state" >"$out/core.state"
    fi

    mkdir -p "$out/unit"

    printf '%s\n' tests/unit/test_*.c | xargs -P "$(nproc)" -I{} bash -c '
        cc -std=gnu11 -O1 -g -Wno-deprecated-declarations -Ingx_module \
            -Itests/unit -o "$1/$(basename {} .c)" {} "$0/libcore.a" \
            -lcmocka -ljansson -lhiredis -llua5.1 -lcrypto -lm -lgcov' \
        "$out/core" "$out/unit"

    # those that fork a lot write as often
    TEST_UNIT_DIR=$out/unit T='' TEST_TIMEOUT=${TEST_TIMEOUT:-600} \
        util/test.pl unit >"$out/core.log" 2>&1 \
        || { grep -E '^  \S+ +FAILED' "$out/core.log" || true; }
    tail -n 1 "$out/core.log"

    util/coverage.py core "$here/ngx_module/core/" "" "$out/core.open" \
        "$out/core"
}


module() {
    local tree objs failed

    tree=${NGINX_SRC:-$(util/nginx-source.sh "$build/src")}
    cc -O1 -g -Wall -Wextra -c tests/tools/counts.c -o "$out/counts.o"
    STATIC_FLAGS=$flags STATIC_LINK=$out/counts.o \
        util/build-static.sh "$out/static" "$tree"
    objs=$out/static/objs

    # workers are somebody else than the master, and whoever ends writes
    cat >"$out/open" <<'END'
#!/bin/sh
find "$@" -name '*.gcno' | while read -r notes; do
    : >>"${notes%.gcno}.gcda"
    chmod 666 "${notes%.gcno}.gcda"
done
END

    cat >"$out/cc" <<END
#!/bin/sh
cc -O0 --coverage "\$@" && "$out/open" "$out/build"
END
    chmod 755 "$out/open" "$out/cc"
    "$out/open" "$objs"

    # what the tests need, but for the callers that they build themselves:
    # those hold parts of the module, too
    mkdir -p "$out/build/scale"

    for f in mock load faultproxy llmctl llmctl-san nginx scale/turn.so; do
        ln -sfn "$build/$f" "$out/build/$f"
    done

    failed=0
    CC=$out/cc BUILD=$out/build TEST_NGINX_BINARY=$out/static/nginx \
        TEST_NGINX_MODULE='' TEST_LLM_SLOW=1 TEST_LLM_KILL=RTMIN \
        TEST_TIMEOUT=${TEST_TIMEOUT:-480} \
        util/test.pl t >"$out/module.log" 2>&1 || failed=1
    [ "$failed" = 0 ] || grep -E '^  \S+ +FAILED' "$out/module.log" || true
    tail -n 1 "$out/module.log"

    util/coverage.py module "$here/ngx_module/" "$here/ngx_module/core/" \
        "$out/module.open" "$objs/addon" "$out"/build/test-*
}


for part; do
    case $part in
        core|module) "$part" ;;
        *) echo "$0: no part \"$part\"" >&2; exit 2 ;;
    esac
done
