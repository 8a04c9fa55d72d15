#!/usr/bin/env bash
#
# deb.sh OUT: the Debian package of the module, for the nginx it was built
# against (the ABI is a dependency).

set -eu

here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${BUILD:-$here/../build}" && pwd)
package=libnginx-mod-http-llm

mkdir -p "$1"
out=$(cd "$1" && pwd)
root=$out/root

version=$(sed -n 's/^#define NGX_HTTP_LLM_VERSION *"\(.*\)"/\1/p' \
          "$here/../ngx_module/http/ngx_http_llm.h")-1
arch=$(dpkg --print-architecture)
abi=$(sed -n 's/^nginx:abi=//p' \
      /usr/share/nginx/src/debian/libnginx-mod.abisubstvars)

umask 022
rm -rf "$root" "$out"/$package*.deb
mkdir -p "$root/DEBIAN"

"$here/layout.sh" "$build/ngx_http_llm_module.so" "$root"
"$here/../llmctl/install.sh" "$build/llmctl" "$root"
programs=(-name '*.so' -o -path '*/bin/*')
find "$root" \( "${programs[@]}" \) -type f -exec strip --strip-unneeded {} +

# which packages hold the libraries it needs
mkdir -p "$out/shlibs/debian"
printf 'Source: ngx-llm\n\nPackage: %s\nArchitecture: any\n' $package \
    >"$out/shlibs/debian/control"
libraries=$(cd "$out/shlibs" && find "$root" \( "${programs[@]}" \) \
            -type f -exec dpkg-shlibdeps -O {} + 2>/dev/null \
            | sed -n 's/^shlibs:Depends=//p')

{
    echo "Package: $package"
    echo "Version: $version"
    echo "Architecture: $arch"
    echo "Maintainer: the ngx-llm authors <ngx-llm@localhost>"
    echo "Section: httpd"
    echo "Priority: optional"
    echo "Depends: $abi, $libraries"
    echo "Recommends: nginx"
    echo "Suggests: redis-server"
    echo "Installed-Size: $(du -sk "$root" | cut -f1)"
    echo "Description: LLM API gateway module for nginx"
    echo " Puts keys, limits, budgets, a cache, retries and accounting in"
    echo " front of OpenAI-compatible providers, for clients that change"
    echo " nothing but the base URL and the key."
} >"$root/DEBIAN/control"

# the links are made, not shipped: an administrator may remove one, and it
# stays removed over an upgrade
cat >"$root/DEBIAN/postinst" <<'END'
#!/bin/sh
set -e

link=/etc/nginx/modules-enabled/50-mod-http-llm.conf

if [ "$1" = configure ] && [ -z "$2" ]; then
    mkdir -p "${link%/*}"
    ln -sf /usr/share/nginx/modules-available/mod-http-llm.conf "$link"
fi

if [ "$1" = configure ] && [ -x /usr/sbin/nginx ] && nginx -t -q 2>/dev/null
then
    invoke-rc.d --quiet nginx reload || true
fi
END

cat >"$root/DEBIAN/prerm" <<'END'
#!/bin/sh
set -e

if [ "$1" = remove ]; then
    rm -f /etc/nginx/modules-enabled/50-mod-http-llm.conf
fi
END

chmod 755 "$root/DEBIAN/postinst" "$root/DEBIAN/prerm"

(cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' \
    | LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums)

dpkg-deb --root-owner-group --build "$root" \
    "$out/${package}_${version}_$arch.deb" >/dev/null
echo "built $out/${package}_${version}_$arch.deb"
