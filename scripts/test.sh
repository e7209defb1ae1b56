#!/usr/bin/env bash
# All tests. What they need is installed first; a test whose reference data or tool is absent says so.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install.sh test
exec cargo test --locked "$@"
