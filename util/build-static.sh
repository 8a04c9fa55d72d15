#!/usr/bin/env bash
#
# build-static.sh OUT TREE: a whole nginx from TREE in OUT/nginx with the module
# linked in, AddressSanitizer and UndefinedBehaviorSanitizer on, every
# ngx_palloc() a malloc() of its own, so that an overflow inside a pool shows,
# and the points at which a test can have a worker die.  TREE is not written to.
# STATIC_FLAGS: other flags than the sanitizers', STATIC_LINK: linked, too.

set -eu

here=$(cd "$(dirname "$0")/.." && pwd)

mkdir -p "$1"
out=$(cd "$1" && pwd)
tree=$(cd "$2" && pwd)

if [ -x "$tree/configure" ]; then
    configure=./configure
else
    configure=auto/configure
fi

sanitize="-fsanitize=address,undefined -fno-omit-frame-pointer"
flags=${STATIC_FLAGS:--O1 -g $sanitize -DNGX_DEBUG_PALLOC=1 -DNGX_DEBUG_MALLOC=1}

state=$({ echo "$tree" "${CC:-cc}" "$flags" "${STATIC_LINK-}"
          find "$here/ngx_module" -name '*.[ch]' | LC_ALL=C sort
          cksum "$here/ngx_module/config" "$here/ngx_module/config.make" \
                "$tree/$configure" "$0"; })

if [ "$state" != "$(cat "$out/state" 2>/dev/null)" ]; then
    rm -rf "$out/tree" "$out/objs"
    mkdir -p "$out/tree"

    for f in "$tree"/*; do
        case ${f##*/} in
            Makefile|objs) ;;
            *) ln -s "$f" "$out/tree/" ;;
        esac
    done

    if ! (cd "$out/tree" && $configure ${CC:+--with-cc="$CC"} \
          --prefix="$out" --error-log-path=stderr \
          --http-log-path="$out/access.log" --builddir="$out/objs" --with-compat --with-debug \
          --with-pcre-jit --with-threads --with-http_ssl_module \
          --with-http_v2_module --with-http_realip_module \
          --with-http_stub_status_module --with-http_auth_request_module \
          --with-http_sub_module \
          --with-cc-opt="$flags -DNGX_HTTP_LLM_FAULTS" \
          --with-ld-opt="$flags ${STATIC_LINK-}" \
          --add-module="$here/ngx_module") >"$out/configure.log" 2>&1
    then
        tail -n 20 "$out/configure.log" >&2
        exit 1
    fi

    printf '%s\n' "$state" >"$out/state"
fi

unset MAKEFLAGS MFLAGS MAKELEVEL

# the build runs nothing that it links, but a later link may: no leak checks
export ASAN_OPTIONS=detect_leaks=0

cd "$out/tree"
make -s -j"$(nproc)" -f "$out/objs/Makefile" binary >"$out/make.log" 2>&1 \
    || { grep -v '^make' "$out/make.log" >&2; exit 1; }

cmp -s "$out/objs/nginx" "$out/nginx" || { cp "$out/objs/nginx" \
    "$out/nginx.new" && mv -f "$out/nginx.new" "$out/nginx"; }
