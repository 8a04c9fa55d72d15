#!/usr/bin/env bash
#
# layout.sh SO DESTDIR: puts the module where Debian's nginx keeps modules,
# with a line that loads it, the dashboard, and examples.  Used by install.sh
# and deb.sh.

set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
so=$1
dest=$2
doc=$dest/usr/share/doc/libnginx-mod-http-llm

modules=$(nginx -V 2>&1 | grep -o -- '--modules-path=[^ ]*' | cut -d= -f2)
modules=${modules:-/usr/lib/nginx/modules}

install -D -m 644 "$so" "$dest$modules/ngx_http_llm_module.so"

mkdir -p "$dest/usr/share/nginx/modules-available"
echo "load_module $modules/ngx_http_llm_module.so;" \
    >"$dest/usr/share/nginx/modules-available/mod-http-llm.conf"
chmod 644 "$dest/usr/share/nginx/modules-available/mod-http-llm.conf"

(cd "$top" && find dashboard -type f -exec install -D -m 644 {} \
    "$dest/usr/share/ngx-llm/{}" \;)

install -D -m 644 "$top/LICENSE" "$doc/copyright"
for f in "$top"/config/* "$top"/docs/*.md "$top"/docs/openapi.json; do
    [ -f "$f" ] && install -D -m 644 "$f" "$doc/examples/${f##*/}"
done

for f in "$top"/config/prometheus/* "$top"/config/grafana/*; do
    install -D -m 644 "$f" "$doc/examples/${f#"$top"/config/}"
done

for f in "$doc"/examples/*.md; do
    [ -f "$f" ] && mv "$f" "$doc/"
done

exit 0
