#!/usr/bin/env bash
#
# build-faults.sh OUT: builds OUT/ngx_http_llm_module.so with the labelled
# points at which a test can have a worker die
# (ngx_module/tasks/ngx_http_llm_fault.h): the module that was built into
# BUILD, but for the files that have such points.

set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD:-$here/build}

mkdir -p "$1"
out=$(cd "$1" && pwd)
so=$out/ngx_http_llm_module.so

# tests that run at the same time need it once
exec 9>"$out/lock"
flock 9

[ -f "$build/nginx/objs/Makefile" ] || "$here/util/build-module.sh" "$build" >&2

build=$(cd "$build" && pwd)
objs=$build/nginx/objs

[ -f "$so" ] && [ "$so" -nt "$build/ngx_http_llm_module.so" ] && exit 0

unset MAKEFLAGS MFLAGS MAKELEVEL
cd "$build/nginx/tree"

# what nginx's own Makefile compiles and links with
show() {
    printf 'include %s\nshow:\n\t@echo %s\n' "$objs/Makefile" "$1" \
        | make -s -f - show
}

flags=$(show '$(CFLAGS) $(ALL_INCS)')
libs=$(sed -n '/-o .*ngx_http_llm_module\.so/,$p' "$objs/Makefile" \
       | tr -s ' \t' '\n' | grep -e '^-l' -e '^-L' -e '^-Wl,' | tr '\n' ' ')

objects=$(find "$objs/addon" -name '*.o' | LC_ALL=C sort)

for source in $(cd "$here/ngx_module" \
                && grep -l -e NGX_HTTP_LLM_FAULT -r --include='*.c' .); do
    name=$(basename "$source" .c)
    # shellcheck disable=SC2086
    "${CC:-cc}" -c $flags -fPIC -DNGX_HTTP_LLM_FAULTS -o "$out/$name.o" \
        "$here/ngx_module/$source" >&2
    objects=$(printf '%s\n' "$objects" \
              | sed "s|.*/$name\.o\$|$out/$name.o|")
done

# shellcheck disable=SC2086
"${CC:-cc}" -shared -o "$so.new" $objects \
    "$objs/ngx_http_llm_module_modules.o" $libs >&2
mv -f "$so.new" "$so"
