#!/usr/bin/env bash
#
# fuzz.sh DIR SECONDS: every fuzz target of DIR for so long.  What it finds is
# kept in DIR/corpus and goes on from there; seeds are in tests/fuzz/seed.

set -eu

dir=$(cd "$1" && pwd)
seconds=$2
cd "$(dirname "$0")/.."

targets=$(find "$dir" -maxdepth 1 -type f -executable -name 'fuzz_*' | sort)
[ -n "$targets" ] || { echo "no fuzz targets in $dir" >&2; exit 1; }

one() {
    local target=$1 name=${1##*/}
    local corpus=$dir/corpus/$name seed=tests/fuzz/seed/${name#fuzz_} seeds=()

    mkdir -p "$corpus"
    [ -d "$seed" ] && seeds=("$seed")

    if "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 \
        -max_len=65536 -artifact_prefix="$dir/$name-" -print_final_stats=1 \
        "$corpus" "${seeds[@]}" >"$dir/$name.log" 2>&1
    then
        echo "fuzz: $name: $(grep -o 'executed_units: *[0-9]*' \
            "$dir/$name.log" | grep -o '[0-9]*$') runs, clean"
    else
        tail -n 60 "$dir/$name.log"
        echo "fuzz: $name: FAILED, input in $dir/$name-*"
        return 1
    fi
}

export -f one
export dir seconds

xargs -P "$(nproc)" -I{} bash -c 'one {}' <<<"$targets"
