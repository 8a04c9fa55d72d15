#!/usr/bin/env bash
#
# install.sh LLMCTL DESTDIR: puts the program, its manual page and the
# completion scripts where Debian keeps such.  Used by util/layout.sh.

set -eu

here=$(cd "$(dirname "$0")" && pwd)
program=$1
dest=$2

install -D -m 755 "$program" "$dest/usr/bin/llmctl"

install -d "$dest/usr/share/man/man1" \
    "$dest/usr/share/bash-completion/completions" \
    "$dest/usr/share/zsh/vendor-completions"

gzip -9nc "$here/llmctl.1" >"$dest/usr/share/man/man1/llmctl.1.gz"
"$program" completion bash \
    >"$dest/usr/share/bash-completion/completions/llmctl"
"$program" completion zsh >"$dest/usr/share/zsh/vendor-completions/_llmctl"

chmod 644 "$dest/usr/share/man/man1/llmctl.1.gz" \
    "$dest/usr/share/bash-completion/completions/llmctl" \
    "$dest/usr/share/zsh/vendor-completions/_llmctl"
