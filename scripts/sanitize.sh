#!/usr/bin/env bash
# Runs the tests of the modules with `unsafe` under a checker: scripts/sanitize.sh address | thread | valgrind [FILTER...].
# AddressSanitizer and ThreadSanitizer are the compiler's, unlocked on the stable toolchain, and in nyx alone: its
# dependencies and Rust's own library stay as they are built for the tests. So ThreadSanitizer, which does not see how
# threads of those wait for each other, is of use only for tests that start none. Valgrind runs the ordinary test binary.
# Miri needs a nightly toolchain with its component, and cannot run vector instructions or mapped files: it is no use here.
set -euo pipefail
cd "$(dirname "$0")/.."
checker=${1:?address, thread or valgrind}
shift
filters=${*:-kernel::tile kernel::product kernel::outer kernel::linear kernel::attention kernel::instructions hits::scan hits::engine input::mapped input::standard genome:: device:: pipe::}
case $checker in
    address | thread)
        # cargo keeps what a wrapper of the workspace makes apart from the rest, by the wrapper's name.
        wrapper=$PWD/target/rustc-$checker
        mkdir -p target
        cat > "$wrapper" <<END
#!/bin/sh
# Written by scripts/sanitize.sh. \`--cfg fuzzing\` leaves out nyx's own allocator, which hides overruns from the checker.
RUSTC_BOOTSTRAP=1 exec "\$@" -Zsanitizer=$checker -Cunsafe-allow-abi-mismatch=sanitizer --cfg fuzzing
END
        chmod +x "$wrapper"
        export RUSTC_WORKSPACE_WRAPPER=$wrapper
        # Unit tests end with what the process still holds, on purpose.
        export ASAN_OPTIONS=detect_leaks=0
        cargo test --locked --lib -- $filters
        ;;
    valgrind)
        binary=$(cargo test --locked --lib --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\))/\1/p')
        valgrind --quiet --error-exitcode=9 --fair-sched=yes "$binary" --test-threads 1 $filters
        ;;
    *) echo "no checker $checker" >&2; exit 2 ;;
esac
