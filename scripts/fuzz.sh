#!/usr/bin/env bash
# Fuzzes the readers: scripts/fuzz.sh [SECONDS [TARGET...]] runs each target for so long (default 180) and prints a row of
# the table in docs/reliability.md for each. The targets are those of cargo-fuzz (`cargo fuzz run TARGET` works, too); they
# are built here with the stable toolchain instead, with coverage in nyx and in the libraries that read files for it.
#   NYX_FUZZ_MINIMIZE=1          afterwards puts inputs that reach something new, at most 512 bytes long, into tests/corpus
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-180}
[ $# -gt 0 ] && shift
export RUSTC_WRAPPER=$PWD/scripts/fuzz_rustc.sh
mkdir -p fuzz/seeds
NYX_SEEDS=$PWD/fuzz/seeds env -u RUSTC_WRAPPER \
    cargo test --locked --quiet --test it -- --ignored --exact corpus::write_seeds > fuzz/seeds/log
cargo build --locked --quiet --manifest-path fuzz/Cargo.toml
targets=${*:-$(ls fuzz/fuzz_targets | sed 's/\.rs$//')}
# An allocation by what a file says of itself fails.
ulimit -v $((6 << 20))
echo "| target | executions | edges | inputs kept | crashes |"
echo "|---|---|---|---|---|"
for target in $targets; do
    mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target" "tests/corpus/$target"
    log=fuzz/artifacts/$target.log
    run=fuzz/target/debug/$target
    TMPDIR=${NYX_FUZZ_SCRATCH:-/dev/shm} "$run" "fuzz/corpus/$target" "tests/corpus/$target" "fuzz/seeds/$target" \
        -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -max_len=65536 -len_control=20 \
        -artifact_prefix="fuzz/artifacts/$target/" -print_final_stats=1 > "$log" 2>&1 || true
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    edges=$(grep -o 'cov: [0-9]*' "$log" | tail -1 | cut -d' ' -f2)
    crashes=$(find "fuzz/artifacts/$target" -type f | wc -l)
    echo "| $target | ${executions:-0} | ${edges:-0} | $(ls "fuzz/corpus/$target" | wc -l) | $crashes |"
    if [ -n "${NYX_FUZZ_MINIMIZE:-}" ]; then
        TMPDIR=${NYX_FUZZ_SCRATCH:-/dev/shm} "$run" -set_cover_merge=1 -max_len=512 -timeout=20 "tests/corpus/$target" \
            "fuzz/seeds/$target" "fuzz/corpus/$target" > "$log.merge" 2>&1 || true
    fi
done
