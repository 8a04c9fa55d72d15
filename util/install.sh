#!/usr/bin/env bash
#
# install.sh [DESTDIR]: installs the module into the machine's nginx and has it
# loaded, and llmctl; nginx is not reloaded.

set -eu

here=$(cd "$(dirname "$0")" && pwd)
build=${BUILD:-$here/../build}
dest=${1:-}
load=$dest/etc/nginx/modules-enabled/50-mod-http-llm.conf

if [ -z "$dest" ] && [ "$(id -u)" -ne 0 ]; then
    exec sudo env BUILD="$build" "$0"
fi

"$here/layout.sh" "$build/ngx_http_llm_module.so" "$dest"
"$here/../llmctl/install.sh" "$build/llmctl" "$dest"

mkdir -p "${load%/*}"
ln -sf /usr/share/nginx/modules-available/mod-http-llm.conf "$load"

if [ -z "$dest" ]; then
    nginx -t -q
    echo "installed; after 'nginx -s reload' the llm_* directives are there:"
    echo "see /usr/share/doc/libnginx-mod-http-llm"
fi
