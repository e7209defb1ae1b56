#!/usr/bin/env bash
# Compiles every kernels/*.cu for GPUs, with a compiler from PyPI and no GPU: to PTX for compute_80, and that to
# machine code for sm_80 and sm_90. Prints registers, spills and shared memory. Fails on a warning, on a spill, and
# when kernels/ptx does not hold that PTX; with --write it is put there.
#
# The compiler is NVRTC 12.0, whose PTX (ISA 8.0) every driver from 525 on reads; NVIDIA's licence does not let
# us ship it, so that it is installed in target/cuda.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=target/cuda
if ! cmp -s scripts/requirements-cuda.txt "$venv/installed.txt"; then
    scripts/install.sh test
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r scripts/requirements-cuda.txt
    cp scripts/requirements-cuda.txt "$venv/installed.txt"
fi
packages=$(echo "$PWD/$venv"/lib/python3*/site-packages/nvidia)
# NVRTC looks for its second library where the loader does.
export LD_LIBRARY_PATH=$packages/cuda_nvrtc/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
exec "$venv/bin/python" scripts/kernels.py "$packages" "$@"
