#!/usr/bin/env bash
# Fuzzes the readers: scripts/fuzz.sh [SECONDS [TARGET...]] runs each target for so long (default 180) and prints a row of
# the table in docs/reliability.md for each. The targets are those of cargo-fuzz (`cargo fuzz run TARGET` works, too); they
# are built here with the stable toolchain instead, with coverage in nyx and in the libraries that read files for it.
#   NYX_FUZZ_MINIMIZE=1          afterwards puts the 40 shortest inputs that reach something new, at most 512 bytes long, into
#                                tests/corpus
# Ends with status 1 when an input ended a process; it lies in fuzz/artifacts/TARGET.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-180}
[ $# -gt 0 ] && shift
export CARGO_TARGET_DIR=$PWD/fuzz/target
# What is built with coverage; all else is built as for the tests, and taken from there where it stands.
instrumented="rust-hdf5 npyz py_literal tokenizers twobit noodles-bgzf noodles-csi noodles-tabix"
if [ ! -d fuzz/target/debug ] && [ -d target/debug/deps ]; then
    mkdir -p fuzz/target/debug
    cp -a target/debug/deps target/debug/build target/debug/.fingerprint fuzz/target/debug
    for crate in nyx $instrumented; do
        rm -rf fuzz/target/debug/.fingerprint/"$crate"-* fuzz/target/debug/deps/{,lib}"$crate"[-_.]* \
            fuzz/target/debug/deps/{,lib}"${crate//-/_}"[-_.]*
    done
fi
mkdir -p fuzz/seeds
NYX_SEEDS=$PWD/fuzz/seeds env -u CARGO_TARGET_DIR \
    cargo test --locked --quiet --test it -- --ignored --exact corpus::write_seeds > fuzz/seeds/log
RUSTC_WRAPPER=$PWD/scripts/fuzz_rustc.sh cargo build --locked --quiet --manifest-path fuzz/Cargo.toml
targets=${*:-$(ls fuzz/fuzz_targets | sed 's/\.rs$//')}
# An allocation by what a file says of itself fails.
ulimit -v $((6 << 20))
ended=0
echo "| target | executions | edges | inputs kept | ended the process |"
echo "|---|---|---|---|---|"
for target in $targets; do
    mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target" "tests/corpus/$target"
    log=fuzz/artifacts/$target.log
    run=fuzz/target/debug/$target
    before=$(find "fuzz/artifacts/$target" -type f | wc -l)
    TMPDIR=${NYX_FUZZ_SCRATCH:-/dev/shm} "$run" "fuzz/corpus/$target" "tests/corpus/$target" "fuzz/seeds/$target" \
        -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -max_len=65536 -len_control=20 \
        -artifact_prefix="fuzz/artifacts/$target/" -print_final_stats=1 > "$log" 2>&1 || true
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    # A process that was ended says no more than its last line.
    [ -n "$executions" ] || executions=$(sed -n 's/^#\([0-9]*\).*/\1/p' "$log" | tail -1)
    edges=$(sed -n 's/.*cov: \([0-9]*\).*/\1/p' "$log" | tail -1)
    crashes=$(($(find "fuzz/artifacts/$target" -type f | wc -l) - before))
    [ "$crashes" -eq 0 ] || ended=1
    echo "| $target | ${executions:-0} | ${edges:-0} | $(find "fuzz/corpus/$target" -type f | wc -l) | $crashes |"
    if [ -n "${NYX_FUZZ_MINIMIZE:-}" ]; then
        known=$(ls "tests/corpus/$target")
        TMPDIR=${NYX_FUZZ_SCRATCH:-/dev/shm} "$run" -set_cover_merge=1 -max_len=512 -timeout=20 "tests/corpus/$target" \
            "fuzz/seeds/$target" "fuzz/corpus/$target" > "$log.merge" 2>&1 || true
        # Every `cargo test` replays them.
        for name in $(ls -Sr "tests/corpus/$target" | grep -vxF "$known" | tail -n +41); do
            rm "tests/corpus/$target/$name"
        done
    fi
done
exit $ended
