# chroot.sh: what matrix.sh and deb-test.sh share: folders made by debootstrap
# from Debian's packages, in which commands run.  To be sourced.
#
# MIRROR  where Debian's packages come from; default: where the machine's own
#         do, else debootstrap's
# OUT/DEBIAN.tar is the bare system: made once, removed to have it made anew.

mirror=${MIRROR:-$(apt-get indextargets --format '$(SITE) $(ORIGIN)' \
                   'Created-By: Packages' 2>/dev/null \
                   | sed -n '/security/d; s/ Debian$//p' | head -n 1)}


# Mounts and processes of a run end with it: they are in namespaces of its own.
# Call first, with the script's name and arguments.

own_namespaces() {
    [ -z "${NGX_LLM_CHROOT:-}" ] || return 0

    local become=()
    [ "$(id -u)" -eq 0 ] || become=(sudo --preserve-env)

    NGX_LLM_CHROOT=1 exec "${become[@]}" \
        unshare --mount --pid --fork --kill-child "$@"
}


# copy_tree TO: what the sources hold, without what git ignores

copy_tree() {
    rm -rf "$1"
    mkdir -p "$1"

    if git -C "$here" rev-parse --git-dir >/dev/null 2>&1; then
        (cd "$here" && git ls-files -z --cached --others --exclude-standard \
            | while IFS= read -r -d '' f; do
                  [ -e "$f" ] && printf '%s\0' "$f"
              done | tar -c --null -T -) | tar -x -C "$1"
    else
        (cd "$here" && tar -c --exclude=./build --exclude=./run .) \
            | tar -x -C "$1"
    fi
}


# bare OUT DEBIAN: OUT/DEBIAN.tar

bare() {
    local out=$1 debian=$2 root=$1/$2.bare

    [ ! -e "$out/$debian.tar" ] || return 0

    rm -rf --one-file-system "$root"
    debootstrap --variant=minbase "$debian" "$root" ${mirror:+"$mirror"} \
        && tar -C "$root" -cf "$out/$debian.tar.new" . \
        && mv "$out/$debian.tar.new" "$out/$debian.tar" \
        && rm -rf --one-file-system "$root"
}


# fresh OUT DEBIAN ROOT: ROOT as debootstrap leaves it.  ROOT must not be
# mounted into yet.

fresh() {
    bare "$1" "$2" || return 1

    rm -rf --one-file-system "$3"
    mkdir -p "$3" && tar -C "$3" -xf "$1/$2.tar"
}


# enter ROOT: mounts what programs expect, and lets apt and pip reach their
# registries as the machine itself does

enter() {
    local root=$1

    cp -f /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null
    cp -f /etc/apt/apt.conf.d/*proxy* /etc/apt/apt.conf.d/99* \
        "$root/etc/apt/apt.conf.d/" 2>/dev/null
    cp -f /etc/pip.conf "$root/etc/" 2>/dev/null
    mkdir -p "$root/usr/local/share/ca-certificates"
    cp -f /usr/local/share/ca-certificates/*.crt \
        "$root/usr/local/share/ca-certificates/" 2>/dev/null

    # debootstrap leaves that to the installer
    [ -e "$root/etc/hosts" ] \
        || printf '%s\n' '127.0.0.1 localhost' '::1 localhost' \
            >"$root/etc/hosts"

    # services are started by the tests, not by being installed
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"

    mount -t proc proc "$root/proc" \
        && mount --rbind /dev "$root/dev" \
        && mount -t tmpfs tmpfs "$root/tmp"
}


# leave ROOT: before another one is entered

leave() {
    umount -l "$1/tmp" "$1/dev" "$1/proc"
}


# inside ROOT COMMAND...: with a clean environment

inside() {
    local root=$1
    shift

    chroot "$root" env -i LANG=C.UTF-8 HOME=/root TMPDIR=/tmp \
        DEBIAN_FRONTEND=noninteractive \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        "$@"
}


# fetch ROOT PACKAGE...: installs

fetch() {
    local root=$1
    shift

    inside "$root" apt-get install -qq -y --no-install-recommends \
        -o Dpkg::Use-Pty=0 "$@"
}


# workshop OUT DEBIAN: enters OUT/DEBIAN, with what a build begins with

workshop() {
    local root=$1/$2

    if [ ! -e "$root/.made" ]; then
        fresh "$1" "$2" "$root" && touch "$root/.made" || return 1
    fi

    enter "$root" \
        && inside "$root" apt-get update -qq \
        && inside "$root" apt-get upgrade -qq -y -o Dpkg::Use-Pty=0 \
        && fetch "$root" make ca-certificates python3 git \
        && inside "$root" update-ca-certificates
}
