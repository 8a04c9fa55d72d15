#!/usr/bin/env bash
#
# nginx-source.sh DIR: the source of the very nginx that is installed, with
# the distribution's patches, as DIR/nginx-VERSION; prints that path.  The
# machine's own list of sources stays as it is: a private one names the
# mirrors that are configured, for source packages.

set -eu

mkdir -p "$1"
dir=$(cd "$1" && pwd)

version=$(dpkg-query -W -f='${source:Version}' nginx)
upstream=${version%-*}
tree=$dir/nginx-${upstream#*:}

if [ -f "$dir/version" ] && [ "$(cat "$dir/version")" = "$version" ]; then
    echo "$tree"
    exit 0
fi

rm -rf "$dir/apt" "$tree"
mkdir -p "$dir/apt/lists/partial"

apt-get indextargets --format '$(SIGNED_BY)|$(REPO_URI) $(RELEASE) $(COMPONENT)' \
    'Created-By: Packages' 'Origin: Debian' | LC_ALL=C sort -u \
| while IFS='|' read -r key rest; do
    case $key in
        /*) echo "deb-src [signed-by=$key] $rest" ;;
        *)  echo "deb-src $rest" ;;
    esac
done >"$dir/apt/sources.list"

options=(-qq -o Dir::Etc::sourcelist="$dir/apt/sources.list"
         -o Dir::Etc::sourceparts=- -o Dir::State::lists="$dir/apt/lists"
         -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
         -o APT::Sandbox::User=)

# A mirror forgets a package's patches when the next one is there, but keeps
# what they are for: then it is that alone.

fetch() {
    apt-get "${options[@]}" update || return

    apt-get "${options[@]}" source "nginx=$version" \
        && [ -x "$tree/configure" ] && return

    local orig=nginx_${upstream#*:}.orig.tar.gz

    [ -s "$orig" ] && rm -rf "$tree" && tar -xzf "$orig" \
        && echo "nginx $version: without the distribution's patches"
}

if ! (cd "$dir" && fetch) >"$dir/apt/log" 2>&1 || [ ! -x "$tree/configure" ]
then
    tail -n 5 "$dir/apt/log" >&2
    echo "the source of nginx $version is not to be had here;" \
         "NGINX_SRC=DIR names a source tree instead" >&2
    exit 1
fi

echo "$version" >"$dir/version"
echo "$tree"
