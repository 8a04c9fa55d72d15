#!/usr/bin/env bash
#
# layout.sh LLMCTL DEST: puts everything but the module itself where Debian
# keeps such: the line that loads the module, llmctl, the dashboard, the
# example site, files to begin with, documents.  Used by install.sh and by
# debian/rules, so that a package and "make install" are the same.

set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
llmctl=$1
dest=$2

share=$dest/usr/share/ngx-llm
doc=$dest/usr/share/doc/libnginx-mod-http-llm
available=$dest/usr/share/nginx/modules-available

put() {
    install -D -m 644 "$1" "$2"
}

umask 022
cd "$top"

# a path of its own: nginx's prefix need not have a link "modules"
mkdir -p "$available"
echo "load_module ${MODULES_PATH:-/usr/lib/nginx/modules}/ngx_http_llm_module.so;" \
    >"$available/mod-http-llm.conf"

put config/site.conf "$dest/etc/nginx/sites-available/ngx-llm"

find dashboard -type f | while IFS= read -r f; do
    case $f in
        */LICENSE) ;;                        # its text is in copyright
        *) put "$f" "$share/$f" ;;
    esac
done

for f in config/tenants.json config/prices.json config/systemd/* \
         config/prometheus/* config/grafana/*
do
    put "$f" "$share/${f#config/}"
done

for f in README.md docs/*.md docs/openapi.json docs/*/*.svg docs/*/*.png; do
    put "$f" "$doc/$f"
done
put config/nginx.conf "$doc/examples/nginx.conf"
put debian/copyright "$doc/copyright"

llmctl/install.sh "$llmctl" "$dest"
