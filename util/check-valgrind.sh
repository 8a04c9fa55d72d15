#!/usr/bin/env bash
#
# check-valgrind.sh OUT: Debian's nginx with the module as it is installed,
# under valgrind's memcheck, through a selection of t/ (T=...: others).  What
# it says is an error: a value that nobody wrote, memory that is not ours.  A
# test that fails is told, no more: some measure time, which is slow here.
# Nor is it about leaks, as nginx ends with its pools.

set -eu

here=$(cd "$(dirname "$0")/.." && pwd)

mkdir -p "$1"
out=$(cd "$1" && pwd)

selection="t/10-first.t t/24-limits.t t/31-cache-redis.t t/40-retry.t
           t/44-join.t t/50-stream.t t/53-usage.t t/56-dialect.t
           t/70-bad-input.t t/80-metrics.t t/104-files.t t/106-tasks.t"

rm -rf "$out/log"
mkdir -p "$out/log"

# a worker goes on under valgrind, and writes a log of its own
cat >"$out/nginx" <<END
#!/bin/sh
exec valgrind -q --log-file=$out/log/%p --num-callers=30 --leak-check=no \\
    --suppressions=$here/util/valgrind.supp $(command -v nginx) "\$@"
END
chmod 755 "$out/nginx"

failed=0
TEST_NGINX_BINARY=$out/nginx TEST_LLM_SLOW=1 TEST_TIMEOUT=${TEST_TIMEOUT:-900} \
    T=${T:-$selection} "$here/util/test.pl" t >"$out/test.log" 2>&1 || true
grep -E '^  \S+ +(ok |FAILED)' "$out/test.log" || failed=1

# one that came to no end has tried nothing
grep -qE 'not ended after|exit code|killed by' "$out/test.log" && failed=1

logs=$(find "$out/log" -type f -size +0 | sort)

if [ -n "$logs" ]; then
    # shellcheck disable=SC2086
    cat $logs | sed 's/^==[0-9]*== //'
    echo "valgrind: errors in $(echo "$logs" | wc -l) processes"
    failed=1

else
    echo "valgrind: $(find "$out/log" -type f | wc -l) processes, clean"
fi

exit $failed
