#!/usr/bin/env bash
#
# check-tidy.sh BUILD [FILE...]: clang-tidy over the module and its core with
# the includes of the module that was built into BUILD; .clang-tidy says what
# it looks for.  What was clean is not looked at again until it changes.

set -eu

build=$(cd "$1" && pwd)
shift
cd "$(dirname "$0")/.."

here=$PWD
out=$build/tidy
objs=$build/nginx/objs
files=("$@")

[ ${#files[@]} -gt 0 ] \
    || mapfile -t files < <(find ngx_module -name '*.c' | LC_ALL=C sort)

mkdir -p "$out/clean"

includes=$(cd "$build/nginx/tree" \
           && printf 'include %s\nshow:\n\t@echo $(ALL_INCS)\n' "$objs/Makefile" \
           | env -u MAKEFLAGS -u MAKELEVEL make -s -f - show)

comma=
{
    echo '['
    for file in "${files[@]}"; do
        printf '%s{"directory":"%s","file":"%s","command":"%s"}\n' "$comma" \
            "$build/nginx/tree" "$here/$file" \
            "cc -std=gnu11 $includes -I$here/ngx_module -c $here/$file"
        comma=,
    done
    echo ']'
} >"$out/compile_commands.json"

# what all of them include
common=$(cksum .clang-tidy "$objs/ngx_auto_config.h" \
         "$out"/../nginx/objs/*_lua.h; cat ngx_module/*.h ngx_module/*/*.h | cksum)

one() {
    local file=$1 clean
    clean=$out/clean/$(echo "$file" | tr / -)

    local state
    state=$(echo "$common"; cksum "$file")
    [ "$state" = "$(cat "$clean" 2>/dev/null)" ] && return

    if clang-tidy --quiet -p "$out" "$file" >"$clean.log" 2>/dev/null; then
        rm -f "$clean.log"
        printf '%s\n' "$state" >"$clean"
    else
        cat "$clean.log"
        return 1
    fi
}

export -f one
export out common

if printf '%s\n' "${files[@]}" | xargs -P "$(nproc)" -I{} bash -c 'one {}'
then
    echo "tidy: clean"
else
    echo "tidy: findings"
    exit 1
fi
