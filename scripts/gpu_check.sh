#!/usr/bin/env bash
# For a machine with an NVIDIA GPU: the kernels against the processor, under compute-sanitizer, and timed beside
# Fi-NeMo. No such run has been made yet: what it prints is news, please report it.
#
#     scripts/gpu_check.sh [REGIONS.npz MOTIFS.h5]
#
# With files of Fi-NeMo's it times `nyx-hits --device cuda`, `--device cpu` and, if it is installed, `finemo
# call-hits -J` on them. compute-sanitizer comes with NVIDIA's toolkit; without it that part is refused.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "gpu_check.sh: $*" >&2; exit 1; }

command -v nvidia-smi >/dev/null || fail "no nvidia-smi: this needs a machine with an NVIDIA GPU and its driver"
nvidia-smi -L | grep -q . || fail "nvidia-smi lists no GPU"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader

echo "== parity with the processor"
cargo test --release --locked --lib hits::cuda::gpu --no-run
cargo test --release --locked --lib hits::cuda::gpu -- --ignored --nocapture --test-threads 1

echo "== compute-sanitizer"
command -v compute-sanitizer >/dev/null || fail "no compute-sanitizer on the path: install NVIDIA's toolkit"
tests=$(cargo test --release --locked --lib --no-run --message-format json 2>/dev/null |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1)
[ -n "$tests" ] || fail "the test executable is not found"
for tool in memcheck racecheck synccheck; do
    compute-sanitizer --tool "$tool" --error-exitcode 1 "$tests" hits::cuda::gpu --ignored --test-threads 1
done

scripts/gpu_check_models.sh

[ $# = 2 ] || exit 0
echo "== time, three runs each"
cargo build --release --locked --bin nyx-hits
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for device in cuda cpu; do
    for run in 1 2 3; do
        echo "nyx-hits --device $device, run $run"
        ( time target/release/nyx-hits -r "$1" -m "$2" --device "$device" -o "$folder/$device.arrows" ) 2>&1
    done
done
if command -v finemo >/dev/null; then
    for run in 1 2 3; do
        echo "finemo call-hits -J, run $run"
        ( time finemo call-hits -r "$1" -m "$2" -o "$folder/finemo" -J ) 2>&1
    done
else
    echo "no finemo on the path: pip install finemo"
fi
