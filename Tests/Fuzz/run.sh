#!/usr/bin/env bash
# Builds the fuzz targets and runs each for so many seconds: run.sh SECONDS [TARGET…]
# The corpus in the repository is only read; what is new, and what is found, is left in .build-fuzz.
set -euo pipefail
cd "$(dirname "$0")/../.."

seconds=$1
shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(request json words qdrant embeddings envelope)

export FUZZ=1
swift build -c release --product Fuzz --scratch-path .build-fuzz \
    -Xswiftc -sanitize=fuzzer,address -Xswiftc -enable-testing

# Without the traces: to name every frame of a program of this size takes minutes. An input that was found gives one again:
#   FUZZ_TARGET=words .build-fuzz/release/Fuzz .build-fuzz/findings/words-crash-…
export ASAN_OPTIONS=detect_leaks=0:symbolize=0 SWIFT_BACKTRACE=enable=no
findings=.build-fuzz/findings
mkdir -p "$findings"
for target in "${targets[@]}"; do
    work=.build-fuzz/corpus/$target
    mkdir -p "$work"
    echo "== $target"
    if ! FUZZ_TARGET=$target .build-fuzz/release/Fuzz "$work" "Tests/Fuzz/corpus/$target" -max_total_time="$seconds" \
        -max_len=16384 -timeout=5 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$findings/$target-" \
        > "$findings/$target.log" 2>&1; then
        tail -20 "$findings/$target.log" >&2
        exit 1
    fi
    grep -E '^stat::(number|average|peak)' "$findings/$target.log"
done
echo "${#targets[@]} targets, $seconds s each, nothing found"
