#!/usr/bin/env bash
#
# build.sh OUT [FLAG...]: builds OUT/ngx_http_llm_test_secret.so, names, seals
# and parcels with a caller for the tests, with the flags that nginx's
# configure found when the module itself was built into BUILD.

set -eu

here=$(cd "$(dirname "$0")/../.." && pwd)
build=${BUILD:-$here/build}
out=$1
shift

mkdir -p "$out"
out=$(cd "$out" && pwd)
so=$out/ngx_http_llm_test_secret.so

# tests that run at the same time need it once
exec 9>"$out/lock"
flock 9

[ -f "$build/nginx/objs/Makefile" ] || "$here/util/build-module.sh" "$build" >&2

module=$here/ngx_module
sources=("$here"/t/secret/*.c "$module"/core/llm_sum.c
         "$module"/state/ngx_http_llm_{secret,secret_seal,parcel,source}.c)
headers=("$here"/t/secret/*.h
         "$module"/state/ngx_http_llm_{secret,secret_private,parcel,source}.h)

state=$({ echo "$build" "$@"
          cksum "${sources[@]}" "${headers[@]}" \
                "$build/nginx/objs/ngx_auto_config.h"; })

[ -f "$so" ] && [ "$state" = "$(cat "$out/state" 2>/dev/null)" ] && exit 0

unset MAKEFLAGS MFLAGS MAKELEVEL
cd "$build/nginx/tree"
flags=$(printf 'include %s\nshow:\n\t@echo $(CFLAGS) $(ALL_INCS)\n' \
        "$build/nginx/objs/Makefile" | make -s -f - show)

# shellcheck disable=SC2086
"${CC:-cc}" -I "$module" $flags "$@" -fPIC -shared -o "$so.new" \
    "${sources[@]}" -lcrypto -lzstd -Wl,-Bsymbolic >&2

mv -f "$so.new" "$so"
printf '%s\n' "$state" >"$out/state"
