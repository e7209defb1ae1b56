#!/bin/sh
# The long run of the reliability tests (docs/reliability.md): N random runs of every kind of fault (default 1000),
# damage at every byte of every format, every property, every way of the determinism ledger. Prints their counts.
set -eu
cd "$(dirname "$0")/.."
NYX_FAULT_RUNS=${1:-1000}
export NYX_FAULT_RUNS
for tests in faults:: properties:: ledger::; do
    cargo test --test it "$tests" -- --nocapture --test-threads "${2:-1}"
done
