#!/usr/bin/env bash
#
# install.sh [--remove] [DESTDIR]: installs the module into the machine's nginx
# and has it loaded, llmctl, and what belongs to them; nginx is not reloaded.
# What was installed is listed in /usr/share/ngx-llm/installed, so that
# --remove takes away just that: a file of /etc that was changed stays.

set -eu

here=$(cd "$(dirname "$0")" && pwd)
build=${BUILD:-$here/../build}
remove= stage=

if [ "${1:-}" = --remove ]; then
    remove=--remove
    shift
fi

dest=${1:-}
list=/usr/share/ngx-llm/installed
load=/etc/nginx/modules-enabled/50-mod-http-llm.conf

if [ -z "$dest" ] && [ "$(id -u)" -ne 0 ]; then
    exec sudo env BUILD="$build" "$0" $remove
fi

if [ -z "$dest" ] && dpkg-query -W -f '${db:Status-Status}' \
    libnginx-mod-http-llm 2>/dev/null | grep -qx installed
then
    echo "libnginx-mod-http-llm is installed as a package: purge that first" >&2
    exit 1
fi


take_away() {
    local sum file folder

    if [ ! -e "$dest$list" ]; then
        echo "nothing to remove: there is no $dest$list" >&2
        return 1
    fi

    # without the module nginx would not start with its site
    for file in "$dest"/etc/nginx/sites-enabled/*; do
        [ -L "$file" ] && [[ $(readlink "$file") == */sites-available/ngx-llm ]] \
            && rm "$file"
    done

    while read -r sum file; do
        case $file in
            /etc/*)
                if [ -e "$dest$file" ] && [ ! -L "$dest$file" ] \
                    && [ "$(sha256sum <"$dest$file" | cut -c1-64)" != "$sum" ]
                then
                    echo "left, as it was changed: $dest$file"
                    continue
                fi ;;
        esac

        rm -f "$dest$file"
    done <"$dest$list"

    # folders that nothing else is in
    cut -d' ' -f3- "$dest$list" | { cat; echo "$list"; } >"$dest$list.gone"
    mapfile -t files <"$dest$list.gone"
    rm -f "$dest$list" "$dest$list.gone"

    for file in "${files[@]}"; do
        folder=${file%/*}
        while [ -n "$folder" ]; do
            # an empty folder of nginx's own stays
            case $dest$folder in
                /*llm*) ;;
                *) [ -n "$dest" ] || break ;;
            esac
            rmdir "$dest$folder" 2>/dev/null || break
            folder=${folder%/*}
        done
    done
}


put_in_place() {
    local modules file sum

    stage=$(mktemp -d)
    trap 'rm -rf "$stage"' EXIT

    modules=$(nginx -V 2>&1 | grep -o -- '--modules-path=[^ ]*' | cut -d= -f2)
    export MODULES_PATH=${modules:-/usr/lib/nginx/modules}

    install -D -m 644 "$build/release/ngx_http_llm_module.so" \
        "$stage$MODULES_PATH/ngx_http_llm_module.so"
    "$here/layout.sh" "$build/llmctl" "$stage"

    # where a main configuration includes such
    if [ -n "$dest" ] || [ -d /etc/nginx/modules-enabled ]; then
        mkdir -p "$stage${load%/*}"
        ln -s /usr/share/nginx/modules-available/mod-http-llm.conf \
            "$stage$load"
    fi

    mkdir -p "$stage${list%/*}"
    (cd "$stage" && find . ! -type d -printf '%P\n' | LC_ALL=C sort \
        | while IFS= read -r file; do
              sum=-
              [ -L "$file" ] || sum=$(sha256sum <"$file" | cut -c1-64)
              printf '%s  /%s\n' "$sum" "$file"
          done) >"$stage.list"
    mv "$stage.list" "$stage$list"

    # a site that was changed is somebody's own
    file=/etc/nginx/sites-available/ngx-llm
    if [ -e "$dest$file" ] && ! cmp -s "$stage$file" "$dest$file"; then
        echo "kept as it is: $dest$file"
        rm "$stage$file"
    fi

    # never changed in place: a running nginx may have the module mapped
    mkdir -p "$dest/"
    (cd "$stage" && tar -c --owner=0 --group=0 \
        $(find . ! -type d -printf '%P\n')) \
        | tar -x -C "$dest/" --unlink-first --no-same-owner
}


if [ -n "$remove" ]; then
    take_away
    exit
fi

put_in_place

if [ -z "$dest" ]; then
    nginx -t -q

    if [ -d /etc/nginx/modules-enabled ]; then
        echo "installed; after 'nginx -s reload' the llm_* directives are there"
    else
        echo "installed; nginx.conf wants, above its first block, the line"
        cat /usr/share/nginx/modules-available/mod-http-llm.conf
    fi

    echo "see /usr/share/doc/libnginx-mod-http-llm/docs/install.md"
fi
