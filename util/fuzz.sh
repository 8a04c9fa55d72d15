#!/usr/bin/env bash
#
# fuzz.sh DIR runs N      every fuzz target of DIR N times, from the seeds in
#                         tests/fuzz/seed alone: the same each time
# fuzz.sh DIR time S      ... for S seconds; goes on from DIR/corpus, where it
#                         keeps what it finds
# fuzz.sh DIR keep        makes the seeds anew: of seeds and DIR/corpus the
#                         inputs that reach most (tests/fuzz/keep.pl)
#
# FUZZ_ONLY=NAMES          these targets alone

set -eu

dir=$(cd "$1" && pwd)
how=$2
most=${3:-0}
cd "$(dirname "$0")/.."

targets=$(find "$dir" -maxdepth 1 -type f -executable -name 'fuzz_*' | sort)

if [ -n "${FUZZ_ONLY:-}" ]; then
    targets=$(printf "$dir/fuzz_%s\n" $FUZZ_ONLY)
fi

[ -n "$targets" ] || { echo "no fuzz targets in $dir" >&2; exit 1; }

one() {
    local target=$1 name=${1##*/} corpus limits run=()
    local seed=tests/fuzz/seed/${name#fuzz_} seeds=()

    [ -d "$seed" ] && seeds=("$seed")

    if [ "$how" = keep ]; then
        corpus=$dir/corpus/$name
        mkdir -p "$corpus" "$seed"
        rm -rf "$dir/$name.merge" "$dir/$name.control"
        mkdir "$dir/$name.merge"

        "$target" -merge=1 -max_len=65536 -rss_limit_mb=1024 \
            -merge_control_file="$dir/$name.control" "$dir/$name.merge" \
            "${seeds[@]}" "$corpus" >"$dir/$name.log" 2>&1 \
            || { tail -n 60 "$dir/$name.log"; return 1; }

        tests/fuzz/keep.pl "$dir/$name.control" "$seed"
        rm -rf "$dir/$name.merge" "$dir/$name.control"
        return
    fi

    if [ "$how" = time ]; then
        corpus=$dir/corpus/$name
        limits=(-max_total_time="$most" -max_len=65536)

    else
        # what one run finds must not change the next one
        corpus=$dir/runs/$name
        rm -rf "$corpus"
        limits=(-seed=1 -runs="$most" -max_len=4096)

        # addresses decide, too
        run=(setarch "$(uname -m)" -R)
        "${run[@]}" true 2>/dev/null || run=()
    fi

    mkdir -p "$corpus"

    if "${run[@]}" "$target" "${limits[@]}" -timeout=10 -rss_limit_mb=1024 \
        -artifact_prefix="$dir/$name-" -print_final_stats=1 \
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
export dir how most

xargs -P "$(nproc)" -I{} bash -c 'one {}' <<<"$targets"
