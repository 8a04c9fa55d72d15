#!/usr/bin/env bash
#
# build-module.sh OUT [TREE]: builds ngx_http_llm_module.so into OUT against
# the headers of the installed nginx (Debian's nginx-dev) or against the
# source tree TREE.  Neither is written to: nginx's configure runs in a folder
# of links to the tree.
#
# LTO=1        optimised across files
# COUNTS=make  with counters of what is run, into OUT/profile; the module is
#              OUT/counting.so
# COUNTS=use   by what they counted (util/release.sh)

set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
system=/usr/share/nginx/src
out=$1
tree=${2:-$system}

mkdir -p "$out"
out=$(cd "$out" && pwd)

case $here$out in
    *[[:space:]]*) echo "nginx cannot be built in a path with blanks" >&2
                   exit 1 ;;
esac

if ! tree=$(cd "$tree" 2>/dev/null && pwd) || [ ! -d "$tree/auto" ]; then
    echo "no nginx source tree: ${2:-$system}" >&2
    exit 1
fi

if [ -x "$tree/configure" ]; then
    configure=./configure
else
    configure=auto/configure
fi

flags=(--with-compat)
if [ -f "$tree/conf_flags" ]; then
    . "$tree/conf_flags"
    flags=("${NGX_CONF_FLAGS[@]}")
fi

# across files: 6 % fewer instructions for half a minute more to link
across= exports=
if [ -n "${LTO:-}" ]; then
    across="-O3 -flto=auto -fno-semantic-interposition"
    exports=-Wl,--version-script=$here/ngx_module/exports.map
fi

name=ngx_http_llm_module.so
if [ -n "${COUNTS:-}" ]; then
    across="$across $("$here/util/profile-flags.sh" "$COUNTS" "$out/profile")"
    [ "$COUNTS" = use ] || name=counting.so
fi

work=$out/nginx
[ "$tree" = "$system" ] || work=$work-$(printf %s "$tree" | cksum | cut -d' ' -f1)

# configured anew when a file came or went, or configure itself is another
state=$({ echo "$tree" "${flags[@]}" "${CC:-cc}" "${CFLAGS:-} $across"
          find "$here/ngx_module" -name '*.[ch]' | LC_ALL=C sort
          cksum "$here/ngx_module/config" "$here/ngx_module/config.make" \
                "$tree/$configure" \
                "$tree/src/core/nginx.h"; })

if [ "$state" != "$(cat "$work/state" 2>/dev/null)" ]; then
    rm -rf "$work"
    mkdir -p "$work/tree"

    for f in "$tree"/*; do
        case ${f##*/} in
            Makefile|objs) ;;
            *) ln -s "$f" "$work/tree/" ;;
        esac
    done

    echo "configuring for $tree"

    if ! (cd "$work/tree" && $configure "${flags[@]}" ${CC:+--with-cc="$CC"} \
          --with-cc-opt="-O2 -g -fPIC -Wextra -Wno-unused-parameter \
                         $across ${CFLAGS:-}" \
          --with-ld-opt="-fPIC -Wl,-z,relro -Wl,-z,now $across $exports" \
          --add-dynamic-module="$here/ngx_module" \
          --builddir="$work/objs") >"$work/configure.log" 2>&1
    then
        tail -n 20 "$work/configure.log" >&2
        exit 1
    fi

    printf '%s\n' "$state" >"$work/state"
fi

unset MAKEFLAGS MFLAGS MAKELEVEL
cd "$work/tree"
make -s -j"$(nproc)" -f "$work/objs/Makefile" modules >"$work/make.log" 2>&1 \
    || { grep -v '^make' "$work/make.log" >&2; exit 1; }

so=$work/objs/ngx_http_llm_module.so

if ! cmp -s "$so" "$out/$name"; then
    # never changed in place: a running nginx may have it mapped
    cp "$so" "$out/$name.new"
    mv -f "$out/$name.new" "$out/$name"
    echo "built $out/$name"
fi
