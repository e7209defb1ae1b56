#!/usr/bin/env bash
# Builds nyx and runs the whole pipeline on data it makes itself.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install.sh
cargo build --release --locked --bins
exec target/release/nyx demo "$@"
