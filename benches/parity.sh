#!/bin/sh
# Measures the rows of parity.md: every number of ../shared/golden/models against what nyx computes.
set -eu
cd "$(dirname "$0")/.."
cargo test --quiet --lib model::transformer::golden -- --nocapture | grep '^| ' | sort
