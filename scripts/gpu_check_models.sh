#!/usr/bin/env bash
# Checks and measures language models on the first NVIDIA GPU: what nyx doctor says, parity with the processor and
# with the reference, compute-sanitizer where it is installed, and windows per second beside PyTorch where that is.
# Needs cargo, the driver and cuBLASLt (`pip install nvidia-cublas-cu12`, its lib folder in LD_LIBRARY_PATH).
set -euo pipefail
cd "$(dirname "$0")/.."
cargo run --quiet --bin nyx -- doctor || true
cargo test --lib -- --ignored on_a_gpu --nocapture --test-threads 1
if command -v compute-sanitizer > /dev/null; then
    tests=$(cargo test --lib --no-run --message-format short 2>&1 | sed -n 's/.*(\(target[^)]*\)).*/\1/p' | tail -1)
    for tool in memcheck racecheck synccheck; do
        compute-sanitizer --tool "$tool" --error-exitcode 1 "$tests" --ignored on_a_gpu --test-threads 1
    done
else
    echo "skipped: compute-sanitizer is not installed"
fi
cargo bench --bench gpu
if python3 -c "import torch, transformers" 2> /dev/null; then
    python3 benches/gpu.py
else
    echo "skipped: PyTorch and transformers are not installed"
fi
