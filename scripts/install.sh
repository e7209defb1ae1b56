#!/usr/bin/env bash
# Installs what a build needs (a C compiler), and with `test` what the tests use besides: a C++ compiler, which
# compiles the GPU kernels for the processor, bcftools as an
# independent reader of variants, and a Python environment in target/venv whose pyarrow, polars and DuckDB
# read our streams. Debian and Ubuntu; elsewhere it says what is missing. Does nothing that is done already.
set -euo pipefail
cd "$(dirname "$0")/.."

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
        echo "install.sh: needs root to install: $*" >&2
        return 1
    fi
}

need() { # need COMMAND PACKAGE...
    command -v "$1" >/dev/null && return
    shift
    if ! command -v apt-get >/dev/null; then
        echo "install.sh: please install: $*" >&2
        return 1
    fi
    if [ -z "${updated:-}" ]; then
        as_root apt-get -o DPkg::Lock::Timeout=300 -qq update
        updated=1
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq -y install --no-install-recommends "$@" >/dev/null
}

need cc gcc libc6-dev
command -v cargo >/dev/null || { echo "install.sh: please install Rust from https://rustup.rs" >&2; exit 1; }
[ "${1:-}" = test ] || exit 0

need c++ g++
need bcftools bcftools
need python3 python3
python3 -c 'import ensurepip, venv' 2>/dev/null || need no-such-command python3-venv
venv=target/venv
if ! cmp -s scripts/requirements.txt "$venv/installed.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r scripts/requirements.txt
    cp scripts/requirements.txt "$venv/installed.txt"
fi
