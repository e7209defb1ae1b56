#!/usr/bin/env bash
# Runs the tests that go through the modules with `unsafe` under a checker: scripts/sanitize.sh address | valgrind [FILTER...].
# AddressSanitizer is the compiler's, unlocked on the stable toolchain, and in nyx alone: its dependencies and Rust's own
# library stay as they are built for the tests. Valgrind runs a test binary without it and sees what is read before it is
# written, too; it knows no AVX-512, and is so slow that it runs some of the tests only.
# Two other checkers are of no use here. Miri cannot run vector instructions or mapped files. ThreadSanitizer takes every
# handing over by rayon, channels or Rust's own library for a race, unless these are built with it, for which the
# sources of Rust's library are needed.
set -euo pipefail
cd "$(dirname "$0")/.."
checker=${1:?address or valgrind}
shift
case $checker in
    address)
        flags="-Zsanitizer=address -Cunsafe-allow-abi-mismatch=sanitizer"
        filters=${*:-kernel:: hits::reference::the_bits hits::reference::motifs hits::stage hits::nnls input:: model::weights genome:: device:: pipe::}
        # Unit tests end with what the process still holds, on purpose.
        export ASAN_OPTIONS=detect_leaks=0
        ;;
    valgrind)
        flags=
        filters=${*:-kernel::instructions kernel::outer kernel::conv::tests::all kernel::conv::one_hot kernel::linear::tests::adding hits::reference::the_bits hits::nnls input::bgzf genome::positioned}
        export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="valgrind --quiet --error-exitcode=9 --fair-sched=yes"
        export NYX_INSTRUCTIONS=avx2 RAYON_NUM_THREADS=1
        ;;
    *) echo "no checker $checker" >&2; exit 2 ;;
esac
# cargo keeps what a wrapper of the workspace makes apart from the rest, by the wrapper's name.
wrapper=$PWD/target/rustc-$checker
mkdir -p target
cat > "$wrapper" <<END
#!/bin/sh
# Written by scripts/sanitize.sh. \`--cfg fuzzing\` leaves out nyx's own allocator, which hides overruns from the checker.
RUSTC_BOOTSTRAP=1 exec "\$@" $flags --cfg fuzzing
END
chmod +x "$wrapper"
export RUSTC_WORKSPACE_WRAPPER=$wrapper
cargo test --locked --lib -- --test-threads "$([ "$checker" = valgrind ] && echo 1 || nproc)" $filters
