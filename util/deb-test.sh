#!/usr/bin/env bash
#
# deb-test.sh OUT [DEBIAN...]: builds the package in OUT/DEBIAN and installs
# it in OUT/DEBIAN.clean, a bare Debian of the same kind, where everything is
# done as docs/install.md and the README tell: the commands between the marks
# in docs/install.md are run as they stand there, the provider is the mock.
# Then it is removed, installed again and purged.  TAP; ends with "N passed,
# N failed".  Needs root; networks of its own: no port of the machine is used.
#
# DEBIAN: bookworm, trixie, sid; the machine's own if none is given.

set -u

here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/util/chroot.sh"

"$here/util/need.sh" matrix || exit 1

mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- "$(. /etc/os-release && echo "$VERSION_CODENAME")"

own_namespaces "$0" "$out" "$@"

package=libnginx-mod-http-llm
passed=0 failed=0


# ok WHAT COMMAND...: the command succeeds

ok() {
    local what=$1 said
    shift

    if said=$("$@" 2>&1); then
        passed=$((passed + 1))
        echo "ok $((passed + failed)) - $debian: $what"
    else
        failed=$((failed + 1))
        echo "not ok $((passed + failed)) - $debian: $what"
        tail -n 30 <<<"$said" | sed 's/^/# /'
    fi
}


# build: OUT/DEBIAN.deb and the mock, both of that Debian

build() {
    local root=$out/$debian

    rm -f "$out/$debian.deb"
    workshop "$out" "$debian" && copy_tree "$root/src/package" || return 1

    inside "$root" make -C /src/package BUILD=/src/deb deb \
        && inside "$root" make -C /src/package BUILD=/src/deb /src/deb/mock \
        && cp "$root"/src/deb/deb/${package}_*.deb "$out/$debian.deb" \
        && cp "$root/src/deb/mock" "$out/$debian.mock"
}


checked() {
    local root=$out/$debian

    # a sid in motion may not have it for some days
    fetch "$root" lintian || { echo 'no lintian to install'; return 0; }

    inside "$root" sh -c 'lintian --allow-root --fail-on error \
        /src/deb/deb/*.changes'
}


# what the documents tell an administrator to run

told() {
    sed -n '/^<!-- begin: first start -->$/,/^<!-- end -->$/p' \
        "$here/docs/install.md" | sed -n 's/^    //p'
}


tour() {
    local root=$out/$debian.clean

    # by namespaces, as the machine's own ports are somebody else's
    unshare --net --pid --fork --kill-child --mount-proc="$root/proc" \
        sh -c 'ip link set lo up && exec "$@"' sh \
        chroot "$root" env -i LANG=C.UTF-8 HOME=/root TMPDIR=/tmp \
        PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        OPENAI_API_KEY=sk-mock \
        bash /root/tour.sh
}


refused() {
    cat "$1"
    false
}


# as the drop-in has it: a system that can be written to in the given places
# alone, the given capabilities, and no more by executing something

hardened() {
    local root=$out/$debian.clean f=$out/$debian.clean
    f+=/usr/share/ngx-llm/systemd/ngx-llm.conf

    local writable bounding
    writable=$(sed -n 's/^ReadWritePaths=//p' "$f")
    bounding=$(sed -n 's/^CapabilityBoundingSet=//p' "$f" | tr 'A-Z ' 'a-z\n' \
               | sed '/^$/d; s/^cap_/+/' | paste -sd,)

    WRITABLE=$writable BOUNDING=$bounding ROOT=$root \
        unshare --net --mount --pid --fork --kill-child bash -euc '
        ip link set lo up
        mount --bind "$ROOT" "$ROOT"
        mount -t proc proc "$ROOT/proc"
        mount -t tmpfs tmpfs "$ROOT/tmp"
        for d in $WRITABLE; do mount --bind "$ROOT$d" "$ROOT$d"; done
        mount -o remount,bind,ro "$ROOT"
        exec chroot "$ROOT" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin \
            setpriv --no-new-privs --bounding-set "-all,$BOUNDING" \
            --inh-caps "-all" sh -ec "
                ! touch /etc/written 2>/dev/null
                nginx -t -q
                nginx
                curl -sf http://127.0.0.1:8081/healthz
                nginx -s quit
                while test -e /run/nginx.pid; do sleep 0.05; done"'
}


one() {
    local root=$out/$debian.clean log=$out/$debian.deb.log

    ok "the package is built" build
    [ ! -e "$out/$debian.deb" ] || ok "lintian finds no error" checked
    leave "$out/$debian" 2>/dev/null
    [ -e "$out/$debian.deb" ] || return

    fresh "$out" "$debian" "$root" && enter "$root" || return
    cp "$out/$debian.deb" "$root/root/$package.deb"
    install -m 755 "$out/$debian.mock" "$root/usr/local/bin/mock"
    told >"$root/root/told.sh"
    cp "$here/util/deb-tour.sh" "$root/root/tour.sh"

    ok "lists of packages" inside "$root" apt-get update -qq
    ok "installed with all it depends on" \
        fetch "$root" "/root/$package.deb" nginx
    ok "the module is enabled" \
        test -L "$root/etc/nginx/modules-enabled/50-mod-http-llm.conf"
    ok "no site is enabled" \
        test ! -e "$root/etc/nginx/sites-enabled/ngx-llm"
    ok "nginx -t with the module alone" inside "$root" nginx -t
    ok "manual page and completion" inside "$root" sh -c '
        test -s /usr/share/man/man1/llmctl.1.gz \
        && bash -n /usr/share/bash-completion/completions/llmctl \
        && llmctl help >/dev/null'

    ok "Redis, curl and openssl" \
        fetch "$root" redis-server curl openssl iproute2

    # the tour prints lines of its own
    tour >"$log" 2>&1
    echo "exit $?" >>"$log"
    while IFS= read -r line; do
        case $line in
            ok\ *) ok "${line#ok - }" true ;;
            not\ ok\ *) ok "${line#not ok - }" refused "$log" ;;
        esac
    done <"$log"
    ok "the tour went to its end" grep -qx 'exit 0' "$log"

    ok "nginx starts with the hardening of the drop-in" hardened

    if command -v systemd-analyze >/dev/null; then
        ok "systemd knows what the drop-in says" drop_in
    fi

    ok "removed" inside "$root" apt-get remove -qq -y $package
    ok "nginx -t after the removal" inside "$root" nginx -t
    ok "installed again" fetch "$root" "/root/$package.deb"
    ok "the module is enabled again" \
        test -L "$root/etc/nginx/modules-enabled/50-mod-http-llm.conf"

    rm "$root/etc/nginx/modules-enabled/50-mod-http-llm.conf"
    ok "installed over itself" fetch "$root" --reinstall \
        "/root/$package.deb"
    ok "a link that was taken away stays away" \
        test ! -e "$root/etc/nginx/modules-enabled/50-mod-http-llm.conf"

    ok "purged" inside "$root" apt-get purge -qq -y $package
    ok "nginx -t after the purge" inside "$root" nginx -t
    ok "nothing is left" nothing_left
    leave "$root"
}


drop_in() {
    local unit=$out/$debian.unit said

    rm -rf "$unit"
    mkdir -p "$unit/nginx.service.d"
    sed 's/^Exec[A-Za-z]*=.*/#&/' \
        "$out/$debian.clean/lib/systemd/system/nginx.service" \
        >"$unit/nginx.service"
    sed -i '/^\[Service\]/aExecStart=/bin/true' "$unit/nginx.service"
    cp "$here/config/systemd/ngx-llm.conf" "$unit/nginx.service.d/"

    said=$(systemd-analyze verify --man=no "$unit/nginx.service" 2>&1)
    ! grep -F ngx-llm.conf <<<"$said"
}


nothing_left() {
    local root=$out/$debian.clean left

    left=$(cd "$root" && find etc usr var/lib/nginx \
        \( -name '*llm*' -o -name '*ngx-llm*' \) ! -path 'etc/nginx/llm*' \
        ! -path 'var/lib/dpkg/*')
    [ -z "$left" ] || { echo "$left"; false; }
}


for debian in "$@"; do
    one
done

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
