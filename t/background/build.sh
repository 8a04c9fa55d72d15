#!/usr/bin/env bash
#
# build.sh OUT: builds OUT/ngx_http_llm_test_background.so, a caller of the
# internal listener for the tests, with the flags that nginx's configure found
# when the module itself was built into BUILD.  It has no part of the module in
# it and needs one that is loaded before, or linked in.

set -eu

here=$(cd "$(dirname "$0")/../.." && pwd)
build=${BUILD:-$here/build}
out=$1

mkdir -p "$out"
out=$(cd "$out" && pwd)
so=$out/ngx_http_llm_test_background.so

# tests that run at the same time need it once
exec 9>"$out/lock"
flock 9

[ -f "$build/nginx/objs/Makefile" ] || "$here/util/build-module.sh" "$build" >&2

sources=("$here"/t/background/*.c)

state=$({ echo "$build"
          cksum "${sources[@]}" "$here"/ngx_module/http/ngx_http_llm_loopback.h \
                "$here"/ngx_module/core/llm_http.h \
                "$build/nginx/objs/ngx_auto_config.h"; })

[ -f "$so" ] && [ "$state" = "$(cat "$out/state" 2>/dev/null)" ] && exit 0

unset MAKEFLAGS MFLAGS MAKELEVEL
cd "$build/nginx/tree"
flags=$(printf 'include %s\nshow:\n\t@echo $(CFLAGS) $(ALL_INCS)\n' \
        "$build/nginx/objs/Makefile" | make -s -f - show)

# shellcheck disable=SC2086
"${CC:-cc}" -I "$here/ngx_module" $flags -fPIC -shared -o "$so.new" \
    "${sources[@]}" >&2

mv -f "$so.new" "$so"
printf '%s\n' "$state" >"$out/state"
