#!/bin/sh
# Measures the rows of parity.md: what nyx computes against every reference of ../shared and tests/golden.
set -eu
cd "$(dirname "$0")/.."
cargo test --lib model:: -- --nocapture 2>/dev/null | grep '^| ' | sort -u
