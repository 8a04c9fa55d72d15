#!/usr/bin/env bash
#
# build-test-module.sh NAME OUT [FLAG...]: builds OUT/ngx_http_llm_test_NAME.so,
# a caller for the tests (t/NAME) with the parts of the module that it calls,
# with the flags that nginx's configure found when the module itself was built
# into BUILD.

set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD:-$here/build}
name=$1
out=$2
shift 2

mkdir -p "$out"
out=$(cd "$out" && pwd)
so=$out/ngx_http_llm_test_$name.so

# tests that run at the same time need it once
exec 9>"$out/lock"
flock 9

[ -f "$build/nginx/objs/Makefile" ] || "$here/util/build-module.sh" "$build" >&2

module=$here/ngx_module
sources=("$here/t/$name"/*.c)
headers=()
libraries=()

redis() {
    sources+=("$module"/state/ngx_http_llm_redis*.c)
    headers+=("$module"/state/ngx_http_llm_redis*.h)
    libraries+=(-lhiredis)
}

case $name in
redis)
    redis
    ;;
inbox)
    redis
    sources+=("$here"/t/redis/*.c "$module"/state/ngx_http_llm_inbox*.c)
    headers+=("$module"/state/ngx_http_llm_inbox*.h)
    libraries+=(-lcrypto)
    set -- -DLLM_TEST_OTHER=1 "$@"
    ;;
secret)
    sources+=("$module"/core/llm_sum.c
              "$module"/state/ngx_http_llm_{secret,secret_seal,parcel,source}.c)
    headers+=("$here"/t/secret/*.h
              "$module"/state/ngx_http_llm_{secret,secret_private,parcel,source}.h)
    libraries+=(-lcrypto -lzstd)
    ;;
background)
    # what it calls is in the module that is loaded before, or linked in
    headers+=("$module"/http/ngx_http_llm_loopback.h "$module"/core/llm_http.h)
    ;;
*)
    echo "$0: no module \"$name\"" >&2
    exit 2
    ;;
esac

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
    "${sources[@]}" "${libraries[@]}" -Wl,-Bsymbolic >&2

mv -f "$so.new" "$so"
printf '%s\n' "$state" >"$out/state"
