#!/usr/bin/env bash
# Runs the tests of the modules with `unsafe` under a checker: scripts/sanitize.sh address | thread | valgrind [FILTER...].
# AddressSanitizer and ThreadSanitizer are the compiler's (nightly flags, unlocked on the stable toolchain; its standard
# library is not instrumented, so ThreadSanitizer may report what is none in it). Valgrind runs the ordinary test binary.
# Miri needs a nightly toolchain, and cannot run vector instructions or mapped files: it is no use here.
set -euo pipefail
cd "$(dirname "$0")/.."
checker=${1:?address, thread or valgrind}
shift
filters=${*:-kernel::tile kernel::product kernel::linear kernel::attention hits::scan hits::engine input::mapped genome:: device::}
host=$(rustc -vV | sed -n 's/^host: //p')
case $checker in
    address | thread)
        export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=target/$checker
        # `--cfg fuzzing` leaves out nyx's own allocator, which hides overruns from the checker.
        export RUSTFLAGS="-Zsanitizer=$checker --cfg fuzzing"
        [ "$checker" = thread ] && RUSTFLAGS="$RUSTFLAGS -Cunsafe-allow-abi-mismatch=sanitizer"
        # Unit tests end with what the process still holds, on purpose.
        export ASAN_OPTIONS=detect_leaks=0
        cargo test --locked --lib --target "$host" -- $filters
        ;;
    valgrind)
        cargo test --locked --lib --no-run
        binary=$(cargo test --locked --lib --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\))/\1/p')
        valgrind --quiet --error-exitcode=9 --fair-sched=yes "$binary" --test-threads 1 $filters
        ;;
    *) echo "no checker $checker" >&2; exit 2 ;;
esac
