#!/usr/bin/env bash
#
# check-analyze.sh OUT: cppcheck, gcc's and clang's static analysers over the
# pure core, llmctl and the test tools; every finding is an error.

set -eu

cd "$(dirname "$0")/.."
mkdir -p "$1"
out=$1
errors=0

# a stack trace per finding, once per file; nothing is linked
analyse() {
    local name=$1
    shift

    if printf '%s\n' ngx_module/core/*.c llmctl/*.c tests/mock/*.c \
        tests/tools/*.c \
        | xargs -P "$(nproc)" -I{} "$@" {} >"$out/$name.log" 2>&1 \
        && ! grep -qE ': (warning|error):' "$out/$name.log"
    then
        echo "analyse: $name: clean"
    else
        cat "$out/$name.log"
        echo "analyse: $name: findings"
        errors=1
    fi
}

flags=(-std=gnu11 -Wall -Wextra -Ingx_module -Illmctl -Itests/tools -D_GNU_SOURCE)

analyse gcc gcc "${flags[@]}" -O2 -fanalyzer -c -o /dev/null

analyse clang clang "${flags[@]}" --analyze --analyzer-output text \
    -Xclang -analyzer-werror -o /dev/null

mkdir -p "$out/cppcheck"

if cppcheck -q -j "$(nproc)" --cppcheck-build-dir="$out/cppcheck" \
    --enable=warning,performance,portability --inline-suppr \
    --suppress=missingIncludeSystem --suppress=normalCheckLevelMaxBranches \
    --std=c11 -Ingx_module -Illmctl -Itests/tools --error-exitcode=1 \
    ngx_module/core llmctl tests/mock tests/tools
then
    echo "analyse: cppcheck: clean"
else
    echo "analyse: cppcheck: findings"
    errors=1
fi

exit $errors
