#!/usr/bin/env bash
# For a machine with an NVIDIA GPU: language models against the processor and the reference, under compute-sanitizer
# where it is installed, and their windows per second beside transformers and PyTorch where those are. No such run has
# been made yet. Needs cuBLASLt, too (`pip install nvidia-cublas-cu12`, its lib folder in LD_LIBRARY_PATH).
set -euo pipefail
cd "$(dirname "$0")/.."

echo "== what there is"
cargo run --release --locked --quiet --bin nyx -- doctor || true

echo "== parity with the processor and with the reference"
cargo test --release --locked --lib -- --ignored on_a_gpu --nocapture --test-threads 1

echo "== compute-sanitizer"
if command -v compute-sanitizer > /dev/null; then
    tests=$(cargo test --release --locked --lib --no-run --message-format json 2>/dev/null |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1)
    for tool in memcheck racecheck synccheck; do
        compute-sanitizer --tool "$tool" --error-exitcode 1 "$tests" --ignored on_a_gpu --test-threads 1
    done
else
    echo "skipped: no compute-sanitizer on the path, it comes with NVIDIA's toolkit"
fi

echo "== windows per second"
cargo bench --locked --bench gpu
if python3 -c "import torch, transformers" 2> /dev/null; then
    python3 benches/gpu.py
else
    echo "skipped: no PyTorch with transformers"
fi
